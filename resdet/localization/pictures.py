"""A localizer's boxes, drawn beside the true ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.detection.evaluation.pictures import spread
from resdet.files.atomic import write_image
from resdet.localization.data.crops import boxes_in
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.loc_error import best_overlaps
from resdet.results.drawing import draw
from resdet.results.result import Result

RED, GREEN = 0, 12  # labels that are drawn so


def write_located(
    folder: Path, source: LocalizedImages, indices: np.ndarray, results: Sequence[Result], count: int
) -> None:
    """`count` images of a localizer's source, evenly spaced, each as folder/NUMBER_NAME.jpg: green is where its objects
    are, red the box of their class, with its score and the best overlap. `indices` [n] are those of the results."""
    for row in spread(len(results), count):
        index, result = int(indices[row]), results[row]
        true = boxes_in(source, index, result.size[::-1])
        iou = best_overlaps(result.boxes[None], [true]).max()
        caption = f"{result.names[0]} {result.scores[0]:.2f}, IoU {iou:.2f}"
        drawn = draw(source.image(index).decode(), true, [GREEN] * len(true))
        drawn = draw(drawn, result.boxes, [RED], [caption])
        write_image(folder / f"{index}_{Path(source.name(index)).stem}.jpg", drawn)
