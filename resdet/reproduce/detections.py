"""Detections drawn: validation images with what a trained detector sees in them, on one sheet."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from resdet.detection.evaluation.pictures import spread
from resdet.reproduce.plot import Photograph, Picture, Stroke, Word, text_width
from resdet.results import drawing
from resdet.results.result import Result

SCORE = 0.6  # of what is drawn
IMAGES, COLUMNS = 12, 4
WIDTH, GAP, HEAD = 240, 8, 32  # of an image on the sheet, between them, and above them
FINE = 2  # pixels of an image for each of the sheet's
SIZE, LINE = 11, 1.8  # of captions, and the width of boxes


def look(checkpoint: Path) -> Iterator[tuple[str, np.ndarray, Result]]:
    """Validation images of the data that a detector was trained on, evenly spaced: name, pixels and detections."""
    from resdet import config, hub
    from resdet.detection.data.geometry import open_image
    from resdet.detection.data.sources import open_scenes

    model = hub.load(str(checkpoint))
    experiment = config.from_dict(model.experiment, f"the config inside {checkpoint}")
    source = open_scenes(experiment.data, "val")
    for index in spread(len(source), IMAGES):
        pixels = open_image(source, index).decode()
        (result,) = model.predict([pixels], SCORE)
        yield source.name(index), pixels, result


def compose(shown: Sequence[tuple[np.ndarray, Result]], title: str) -> Picture:
    """Pixels and detections in rows of COLUMNS, each as high as the highest image in it."""
    photographs, strokes, words = [], [], [Word(title, GAP, HEAD - GAP, size=15)]
    y = HEAD
    for start in range(0, len(shown), COLUMNS):
        heights = []
        for column, (pixels, result) in enumerate(shown[start : start + COLUMNS]):
            scale = WIDTH / pixels.shape[1]
            height, x = round(pixels.shape[0] * scale), GAP + column * (WIDTH + GAP)
            fine = cv2.resize(pixels, (FINE * WIDTH, FINE * height), interpolation=cv2.INTER_AREA)
            photographs.append(Photograph(fine, x, y, WIDTH, height))
            corner = np.array([x, y, x, y])
            for i in range(len(result))[::-1]:  # the first one uppermost
                box = corner + np.clip(result.boxes[i] * scale, 0, (WIDTH, height, WIDTH, height))
                color = drawing.color(result.labels[i])
                strokes.append(outline(box, color))
                words.append(caption(f"{result.names[i]} {result.scores[i]:.2f}", box, color, corner))
            heights.append(height)
        y += max(heights) + GAP
    return Picture(strokes, words, GAP + COLUMNS * (WIDTH + GAP), y, photographs)


def outline(box: np.ndarray, color: drawing.Color) -> Stroke:
    x1, y1, x2, y2 = box
    return Stroke(np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]), as_hex(color), LINE)


def caption(text: str, box: np.ndarray, color: drawing.Color, corner: np.ndarray) -> Word:
    """Above the box where there is room, and never beyond the image, whose corner is given."""
    left, top = corner[:2]
    x = max(left, min(box[0], left + WIDTH - text_width(text, SIZE)))
    return Word(text, x, max(box[1] - 3, top + SIZE), "start", SIZE, as_hex(drawing.text_color(color)), as_hex(color))


def as_hex(color: drawing.Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
