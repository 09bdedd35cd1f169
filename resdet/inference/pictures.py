"""Detections of a data set, drawn on some of its images."""

from pathlib import Path
from typing import Optional

import cv2
import numpy as np

from resdet.data.annotations import Annotations
from resdet.errors import DataError
from resdet.evaluation.results import Results
from resdet.inference.drawing import draw

SCORE = 0.5  # of what is drawn


def write_pictures(folder: Path, source: Annotations, results: Results, count: int) -> None:
    """`count` images, evenly spaced over the source, each as folder/ID_NAME.jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    label_of = {category: label for label, category in enumerate(source.category_ids)}
    for index in np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)).tolist():
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
        drawn = draw(pixels, boxes, labels, captions, decoded(results, mine))
        path = folder / f"{source.result_id(index)}_{Path(source.name(index)).stem}.jpg"
        cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))


def decoded(results: Results, rows: np.ndarray) -> Optional[np.ndarray]:
    """The masks of these detections, bool [n, H, W]."""
    if not results.masks or not len(rows):
        return None
    from pycocotools import mask

    return mask.decode([results.masks[row] for row in rows]).transpose(2, 0, 1).astype(bool)
