"""Draws validation images with the detections of a trained detector on a contact sheet."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from resdet.results import visualizer
from resdet.results.captions import place
from resdet.results.plot import Bitmap, Drawing, Stroke, Text, text_width
from resdet.results.result import Result
from resdet.results.spread import spread

SCORE = 0.6  # score threshold
IMAGES, COLUMNS = 12, 4
WIDTH, GAP, HEAD = 240, 8, 32  # width of an image on the sheet, gap between images, height of the title
FINE = 2  # image pixels per pixel of the sheet
SIZE, LINE = 11, 1.8  # font size of captions, line width of boxes


def predict_samples(checkpoint: Path) -> Iterator[tuple[str, np.ndarray, Result]]:
    """Yields name, pixels and detections of evenly spaced validation images from the detector's training config."""
    from resdet import config, hub
    from resdet.detection.data.config import ScenesConfig
    from resdet.detection.data.geometry import open_image
    from resdet.detection.data.sources import open_scenes
    from resdet.detection.model import Detector

    model = hub.load(str(checkpoint), expect=Detector)
    experiment = config.from_dict(model.experiment, f"the config inside {checkpoint}")
    source = open_scenes(cast(ScenesConfig, experiment.data), "val")
    for index in spread(len(source), IMAGES):
        pixels = open_image(source, index).decode()
        (result,) = model.predict([pixels], SCORE)
        yield source.name(index), pixels, result


def compose(samples: Sequence[tuple[np.ndarray, Result]], title: str) -> Drawing:
    """Arranges images with detections on a sheet, in rows of COLUMNS; a row is as high as its highest image."""
    sheet = Drawing([], [Text(title, GAP, HEAD - GAP, size=15)], GAP + COLUMNS * (WIDTH + GAP), HEAD)
    for start in range(0, len(samples), COLUMNS):
        row = samples[start : start + COLUMNS]
        heights = [
            add(sheet, pixels, result, GAP + column * (WIDTH + GAP), sheet.height)
            for column, (pixels, result) in enumerate(row)
        ]
        sheet.height += max(heights) + GAP
    return sheet


def add(sheet: Drawing, pixels: np.ndarray, result: Result, x: float, y: float) -> int:
    """Draws an image at (x, y) with its detections, and returns its height on the sheet."""
    scale = WIDTH / pixels.shape[1]
    height = round(pixels.shape[0] * scale)
    fine = cv2.resize(pixels, (FINE * WIDTH, FINE * height), interpolation=cv2.INTER_AREA)
    sheet.bitmaps.append(Bitmap(fine, x, y, WIDTH, height))
    boxes = np.clip(result.boxes * scale, 0, (WIDTH, height, WIDTH, height))
    captions = [f"{name} {value:.2f}" for name, value in zip(result.names, result.scores)]
    sizes = np.array([(text_width(text, SIZE), SIZE + 2) for text in captions]).reshape(-1, 2)
    corners = place(boxes, np.ceil(sizes), height, WIDTH)
    for i in range(len(result))[::-1]:  # draws the first detection last, on top
        color = visualizer.color(result.labels[i])
        sheet.strokes.append(outline(boxes[i] + (x, y, x, y), color))
        if corner := corners[i]:
            sheet.texts.append(caption(captions[i], x + corner[0], y + corner[1], color))
    return height


def outline(box: np.ndarray, color: visualizer.Color) -> Stroke:
    x1, y1, x2, y2 = box
    return Stroke(np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]), as_hex(color), LINE)


def caption(text: str, left: float, top: float, color: visualizer.Color) -> Text:
    return Text(text, left, top + SIZE - 1, "start", SIZE, as_hex(visualizer.text_color(color)), as_hex(color))


def as_hex(color: visualizer.Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
