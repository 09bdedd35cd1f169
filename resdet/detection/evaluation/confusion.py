"""Which classes are taken for which."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.ground_truth import Kind, as_rle
from resdet.detection.evaluation.results import Results, as_results


def confusion(
    annotations: str | Path | dict,
    results: str | Path | Sequence[dict] | Results,
    kind: Kind = "bbox",
    score: float = 0.5,
    iou: float = 0.5,
) -> dict[str, Any]:
    """{"classes": C names, "matrix": [C + 1][C + 1], "score", "iou"}: rows are what is there, columns what was found;
    the last row is background (nothing there), the last column what was missed.

    Of the detections with at least this `score`, by falling score, each takes the object of largest overlap that is
    left, of whatever class, if that is at least `iou`. Those within crowds count for nothing, and so do crowds.
    """
    truth = ground_truth.read(annotations, kind)
    results = as_results(results, kind)
    results.check(truth, kind)
    label = {identity: k for k, identity in enumerate(sorted(entry["id"] for entry in truth["categories"]))}
    background = len(label)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    for objects, found in by_image(truth, results, score):
        crowd = np.array([bool(entry["iscrowd"]) for entry in objects], bool)
        there = [label[entry["category_id"]] for entry in objects] + [background]
        what = [label[category] for category in results.category_ids[found].tolist()] + [background]
        for thing, detection in match(overlap(objects, results, found, kind), crowd, iou):
            matrix[there[thing], what[detection]] += 1
    classes = ground_truth.class_names(truth["categories"])
    return {"classes": classes, "matrix": matrix.tolist(), "score": score, "iou": iou}


def by_image(truth: dict, results: Results, score: float) -> Iterator[tuple[list[dict], list[int]]]:
    """The objects of each image, and its detections by falling score."""
    objects: dict[int, list[dict]] = {entry["id"]: [] for entry in truth["images"]}
    for annotation in truth["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    detections: dict[int, list[int]] = {image: [] for image in objects}
    for i in np.argsort(-results.scores, kind="stable").tolist():
        if results.scores[i] >= score:
            detections[results.image_ids[i].item()].append(i)
    return ((objects[image], detections[image]) for image in objects)


def overlap(objects: list[dict], results: Results, found: list[int], kind: Kind) -> np.ndarray:
    """Intersection over union [D, G]; over the detection alone where the object is a crowd."""
    from hotcoco import mask

    if not objects or not found:
        return np.zeros((len(found), len(objects)))
    crowd = [bool(entry["iscrowd"]) for entry in objects]
    if kind == "bbox":
        return np.asarray(mask.iou(results.boxes[found].tolist(), [entry["bbox"] for entry in objects], crowd))
    size = results.masks[found[0]]["size"]
    masks = [results.masks[i] for i in found]
    return np.asarray(mask.iou(masks, [as_rle(entry["segmentation"], *size) for entry in objects], crowd))


def match(overlaps: np.ndarray, crowd: np.ndarray, iou: float) -> Iterator[tuple[int, int]]:
    """Pairs (object, detection), -1 for what has no partner; overlaps [D, G] by falling score, crowd [G]."""
    left = ~crowd
    for detection, row in enumerate(overlaps):
        enough = left & (row >= iou)
        if enough.any():
            thing = int(np.where(enough, row, 0).argmax())
            left[thing] = False
            yield thing, detection
        elif not (row[crowd] >= iou).any():
            yield -1, detection
    yield from ((thing, -1) for thing in np.flatnonzero(left).tolist())
