"""What was found in a data set, drawn on some of its images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.data.annotations import Annotations
from resdet.data.localized import boxes_in
from resdet.data.scenes.geometry import scale_of
from resdet.errors import DataError
from resdet.evaluation.ilsvrc_loc import best_overlaps
from resdet.evaluation.results import Results
from resdet.inference.drawing import draw
from resdet.inference.result import Result
from resdet.ops.rle import Decoded
from resdet.writing import write_image

SCORE = 0.5  # of what is drawn
RED, GREEN = 0, 12  # labels that are drawn so


def write_pictures(folder: Path, source: Annotations, results: Results, count: int) -> None:
    """`count` images, evenly spaced over the source, each as folder/ID_NAME.jpg."""
    label_of = {category: label for label, category in enumerate(source.category_ids)}
    for index in spread(len(source), count):
        try:
            pixels = source.image(index).decode()
        except DataError:
            continue  # the evaluation has named it
        mine = np.flatnonzero((results.image_ids == source.result_id(index)) & (results.scores >= SCORE))
        mine = mine[np.argsort(-results.scores[mine], kind="stable")]
        labels = [label_of[category] for category in results.category_ids[mine].tolist()]
        captions = [f"{source.classes[label]} {score:.2f}" for label, score in zip(labels, results.scores[mine])]
        boxes = results.boxes[mine].copy()
        boxes[:, 2:] += boxes[:, :2]
        boxes *= np.tile(scale_of(source, index, pixels), 2)  # a few of ILSVRC's were drawn in another size
        masks = Decoded([results.masks[row] for row in mine]) if results.masks else None
        drawn = draw(pixels, boxes, labels, captions, masks)
        write_image(folder / f"{source.result_id(index)}_{Path(source.name(index)).stem}.jpg", drawn)


def write_located(folder: Path, source: Any, indices: np.ndarray, results: Sequence[Result], count: int) -> None:
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


def spread(length: int, count: int) -> list[int]:
    """At most `count` numbers below `length`, evenly spaced."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(int)).tolist()
