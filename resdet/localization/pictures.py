"""Drawings of a localizer's boxes and the ground truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.detection.evaluation.pictures import spread
from resdet.files.atomic import write_image
from resdet.localization.data.crops import scaled_boxes
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.loc_error import best_overlaps
from resdet.results.drawing import draw, enlargement
from resdet.results.result import Result

RED, GREEN = 0, 12  # labels of these colors


def write_located(
    folder: Path, source: LocalizedImages, indices: np.ndarray, results: Sequence[Result], count: int
) -> None:
    """Writes `count` evenly spaced results as folder/NUMBER_NAME.jpg: ground truth in green, the predicted box in red
    with its score and its best IoU. `indices` [n] are the image indices of the results."""
    for row in spread(len(results), count):
        index, result = int(indices[row]), results[row]
        truth = scaled_boxes(source, index, result.size[::-1])
        iou = best_overlaps(result.boxes[None], [truth]).max()
        caption = f"{result.names[0]} {result.scores[0]:.2f}, IoU {iou:.2f}"
        pixels = source.image(index).decode()
        scale = enlargement(*pixels.shape[:2])
        boxes, labels = np.concatenate([result.boxes, truth]), [RED] + [GREEN] * len(truth)
        pixels = draw(pixels, boxes, labels, [caption], scale=scale)
        write_image(folder / f"{index}_{Path(source.name(index)).stem}.jpg", pixels)
