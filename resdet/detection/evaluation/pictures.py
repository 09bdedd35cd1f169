"""Detections drawn on images of a data set."""

from pathlib import Path

import numpy as np

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.geometry import scale_of
from resdet.detection.evaluation.results import Results
from resdet.errors import DataError
from resdet.files.atomic import write_image
from resdet.ops.rle import Decoded
from resdet.results.drawing import draw, draw_keypoints, enlargement

SCORE = 0.5  # minimum of detections to draw


def write_pictures(folder: Path, source: Annotations, results: Results, count: int) -> None:
    """Writes `count` images, evenly spaced over the source, as folder/ID_NAME.jpg; small ones are enlarged."""
    label_of = {category: label for label, category in enumerate(source.category_ids)}
    for index in spread(len(source), count):
        try:
            pixels = source.image(index).decode()
        except DataError:
            continue  # reported by the evaluation
        rows = np.flatnonzero((results.image_ids == source.result_id(index)) & (results.scores >= SCORE))
        rows = rows[np.argsort(-results.scores[rows], kind="stable")]
        labels = [label_of[category] for category in results.category_ids[rows].tolist()]
        captions = [f"{source.classes[label]} {score:.2f}" for label, score in zip(labels, results.scores[rows])]
        boxes = results.boxes[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        boxes *= np.tile(scale_of(source, index, pixels), 2)  # a few of ILSVRC's are annotated in another size
        masks = Decoded([results.masks[row] for row in rows.tolist()]) if results.masks else None
        scale = enlargement(*pixels.shape[:2])
        picture = draw(pixels, boxes, labels, captions, masks, scale)
        if results.keypoints is not None and source.keypoints is not None:
            points = results.keypoints[rows] * np.append(scale_of(source, index, pixels), 1)
            draw_keypoints(picture, points, labels, source.keypoints.skeleton, scale)
        path = folder / f"{source.result_id(index)}_{Path(source.name(index)).stem}.jpg"
        write_image(path, picture)


def spread(length: int, count: int) -> list[int]:
    """At most `count` numbers below `length`, evenly spaced."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(int)).tolist()
