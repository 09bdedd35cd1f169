"""Overlapping pairs and average precision, for the PASCAL VOC and ILSVRC evaluators.

Both devkits use inclusive 1-based pixels, with a box width of x2 - x1 + 1. Here boxes are x, y, width, height with
exclusive ends, the devkit's (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1); overlaps are equal, and exactly so for
integers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from resdet.detection.data.pairwise_iou import iou_xywh
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.ground_truth import Truth
from resdet.detection.evaluation.results import ResultsLike, as_results

FALSE, TRUE, NEITHER = 0, 1, -1


class Pairs(NamedTuple):
    """Overlapping pairs of detection and object of the same image and class, sorted by descending score, then by
    descending overlap, then by object index."""

    detections: np.ndarray  # int64 [p], rank by score
    objects: np.ndarray  # int64 [p]
    overlaps: np.ndarray  # float64 [p], intersection over union


@dataclass
class EvaluationData:
    """All detections, by descending score, and all objects."""

    classes: list[str]
    detected: np.ndarray  # int64 [n]: class of each detection
    labels: np.ndarray  # int64 [m]: class of each object
    boxes: np.ndarray  # float64 [m, 4]: boxes of the objects, x, y, width, height
    ignored: np.ndarray  # bool [m]: difficult or crowd
    pairs: Pairs
    images: np.ndarray  # int64 [m]: image id of each object
    detected_images: np.ndarray  # int64 [n]: image id of each detection
    detected_boxes: np.ndarray  # float64 [n, 4]: boxes of the detections

    @classmethod
    def read(cls, annotations: Truth, results: ResultsLike) -> "EvaluationData":
        """Reads and ranks the data; equal scores rank by image id, then by order in the file, so that metrics do not
        depend on how images were distributed over processes."""
        truth = ground_truth.read(annotations)
        results = as_results(results)
        results.check(truth)
        category_ids = np.unique([entry["id"] for entry in truth["categories"]])
        order = np.lexsort((results.image_ids, -results.scores))
        objects = truth["annotations"]
        labels = np.searchsorted(category_ids, [entry["category_id"] for entry in objects])
        images = np.array([entry["image_id"] for entry in objects], np.int64)
        boxes = np.array([entry["bbox"] for entry in objects], np.float64).reshape(-1, 4)
        detected = np.searchsorted(category_ids, results.category_ids[order])
        detected_images, detected_boxes = results.image_ids[order], results.boxes[order]
        pairs = overlapping(
            detected_boxes, detected_images * len(category_ids) + detected, boxes, images * len(category_ids) + labels
        )
        ignored = np.array([any(entry.get(f) for f in ("difficult", "ignore", "iscrowd")) for entry in objects], bool)
        return cls(
            ground_truth.class_names(truth["categories"]),
            detected,
            labels,
            boxes,
            ignored,
            pairs,
            images,
            detected_images,
            detected_boxes,
        )


def overlapping(detections: np.ndarray, groups: np.ndarray, objects: np.ndarray, object_groups: np.ndarray) -> Pairs:
    """Finds overlapping pairs within groups int64 [n] and [m]; boxes [n, 4] and [m, 4] are x, y, width, height."""
    order = np.argsort(object_groups, kind="stable")
    first, last = (np.searchsorted(object_groups[order], groups, side) for side in ("left", "right"))
    counts = last - first
    left = np.repeat(np.arange(len(groups)), counts)
    within = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    right = order[first[left] + within]
    overlaps = iou_xywh(detections[left], objects[right])
    positive = np.flatnonzero(overlaps > 0)
    left, right, overlaps = left[positive], right[positive], overlaps[positive]
    rank = np.lexsort((right, -overlaps, left))
    return Pairs(left[rank], right[rank], overlaps[rank])


def summarize(
    data: EvaluationData, outcomes: np.ndarray, positive: np.ndarray, metric: Callable[[np.ndarray, int], float]
) -> dict[str, Any]:
    """Returns {"mAP", "per_class": {name: {"AP", "objects"}}}; the AP of a class without positive objects is None and
    excluded from the mean.

    `outcomes` int64 [n]: TRUE, FALSE or NEITHER; `positive` bool [m]; `metric` takes a class's outcomes by descending
    score, [k] bool, and its number of positive objects.
    """
    totals = np.bincount(data.labels[positive], minlength=len(data.classes)).tolist()
    rows = {}
    for label, (name, total) in enumerate(zip(data.classes, totals)):
        selected = outcomes[data.detected == label]
        rows[name] = {"AP": metric(selected[selected != NEITHER] == TRUE, total) if total else None, "objects": total}
    return {"mAP": average(row["AP"] for row in rows.values()), "per_class": rows}


def average(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def area_ap(hits: np.ndarray, total: int) -> float:
    """Returns the area under the precision-recall curve with monotonically decreasing precision (VOC 2010+, ILSVRC)."""
    return weighted_area_ap(hits, ~hits, total)


def weighted_area_ap(hits: np.ndarray, misses: np.ndarray, total: int) -> float:
    """As `area_ap`, with a weight per false detection; `misses` [k] is 0 for other detections."""
    ranks = np.flatnonzero(hits)
    true_positives = np.arange(1, len(ranks) + 1)
    precision = true_positives / (true_positives + np.cumsum(misses)[ranks])  # where recall increases
    highest = np.maximum.accumulate(precision[::-1])
    return float(highest.sum() / total)


def eleven_point_ap(hits: np.ndarray, total: int) -> float:
    """Returns the mean of the maximum precisions at recalls of at least 0, 0.1, … 1 (VOC 2007)."""
    reached = np.cumsum(hits)
    precision = reached / np.arange(1, len(hits) + 1)
    # In integers, since 0.1 has no exact binary form and a recall of 3/10 must reach 0.3.
    best = [precision[10 * reached >= tenths * total].max(initial=0) for tenths in range(11)]
    return float(np.mean(best))
