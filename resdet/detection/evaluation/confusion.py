"""Confusion matrix of detections."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from resdet.detection.data.coco_file import objects_by_image
from resdet.detection.data.rle import as_rle
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.ground_truth import Kind, Truth
from resdet.detection.evaluation.results import Results, ResultsLike, as_results


def confusion(
    annotations: Truth,
    results: ResultsLike,
    kind: Kind = "bbox",
    score: float = 0.5,
    iou: float = 0.5,
) -> dict[str, Any]:
    """Returns {"classes": C names, "matrix": [C + 1][C + 1], "score", "iou"}: rows are classes of objects, columns
    classes of detections; the last row is background, the last column missed objects.

    Detections with at least this `score`, by descending score, match the unmatched object of any class with the largest
    overlap, if it is at least `iou`. Crowds, and detections within them, are ignored.
    """
    truth = ground_truth.read(annotations, kind)
    results = as_results(results, kind)
    results.check(truth, kind)
    label = {identity: k for k, identity in enumerate(sorted(entry["id"] for entry in truth["categories"]))}
    background = len(label)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    for objects, rows in by_image(truth, results, score):
        crowd = np.array([bool(entry["iscrowd"]) for entry in objects], bool)
        expected = [label[entry["category_id"]] for entry in objects] + [background]
        predicted = [label[category] for category in results.category_ids[rows].tolist()] + [background]
        for item, detection in match(overlap(objects, results, rows, kind), crowd, iou):
            matrix[expected[item], predicted[detection]] += 1
    classes = ground_truth.class_names(truth["categories"])
    return {"classes": classes, "matrix": matrix.tolist(), "score": score, "iou": iou}


def by_image(truth: dict, results: Results, score: float) -> Iterator[tuple[list[dict], list[int]]]:
    """Yields the objects of each image, and the rows of its detections by descending score."""
    objects = objects_by_image(truth)
    detections: dict[int, list[int]] = {image: [] for image in objects}
    for i in np.argsort(-results.scores, kind="stable").tolist():
        if results.scores[i] >= score:
            detections[results.image_ids[i].item()].append(i)
    return ((objects[image], detections[image]) for image in objects)


def overlap(objects: list[dict], results: Results, rows: list[int], kind: Kind) -> np.ndarray:
    """Returns the IoU [D, G]; for crowds, the intersection over the detection's area."""
    from hotcoco import mask

    if not objects or not rows:
        return np.zeros((len(rows), len(objects)))
    crowd = [bool(entry["iscrowd"]) for entry in objects]
    if kind == "bbox":
        return np.asarray(mask.iou(results.boxes[rows].tolist(), [entry["bbox"] for entry in objects], crowd))
    assert results.masks is not None  # results.check
    masks = [results.masks[row] for row in rows]
    size = masks[0]["size"]
    return np.asarray(mask.iou(masks, [as_rle(entry["segmentation"], *size) for entry in objects], crowd))


def match(overlaps: np.ndarray, crowd: np.ndarray, iou: float) -> Iterator[tuple[int, int]]:
    """Yields pairs (object, detection), -1 for unmatched; overlaps [D, G] by descending score, crowd [G]."""
    unmatched = ~crowd
    for detection, row in enumerate(overlaps):
        enough = unmatched & (row >= iou)
        if enough.any():
            item = int(np.where(enough, row, 0).argmax())
            unmatched[item] = False
            yield item, detection
        elif not (row[crowd] >= iou).any():
            yield -1, detection
    yield from ((item, -1) for item in np.flatnonzero(unmatched).tolist())
