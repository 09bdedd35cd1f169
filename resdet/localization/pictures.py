"""Drawings of a localizer's boxes and the ground truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.images.encode import write_image
from resdet.localization.data.crops import scaled_boxes
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.loc_error import best_overlaps
from resdet.results.result import Result
from resdet.results.spread import spread
from resdet.results.visualizer import draw, enlargement

RED, GREEN = 0, 12  # labels with these colors


def write_located(
    folder: Path, source: LocalizedImages, indices: np.ndarray, results: Sequence[Result], count: int
) -> None:
    """Writes `count` evenly spaced results as folder/NUMBER_NAME.jpg; `indices` [n]: image indices of the results."""
    for row in spread(len(results), count):
        index = int(indices[row])
        write_image(folder / f"{name_of(source, index)}.jpg", drawn(source, index, results[row]))


def name_of(source: LocalizedImages, index: int) -> str:
    return f"{index}_{Path(source.name(index)).stem}"


def drawn(source: LocalizedImages, index: int, result: Result) -> np.ndarray:
    """Draws an image with the ground truth in green, and the predicted box in red with its score and its best IoU."""
    truth = scaled_boxes(source, index, result.size[::-1])
    iou = best_overlaps(result.boxes[None], [truth]).max()
    caption = f"{result.names[0]} {result.scores[0]:.2f}, IoU {iou:.2f}"
    pixels = source.image(index).decode()
    boxes, labels = np.concatenate([result.boxes, truth]), [RED] + [GREEN] * len(truth)
    return draw(pixels, boxes, labels, [caption], scale=enlargement(*pixels.shape[:2]))
