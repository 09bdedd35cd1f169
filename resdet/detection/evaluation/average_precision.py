"""What the evaluators of PASCAL VOC and ILSVRC share: who overlaps whom, and the area under precision and recall.

Both devkits count whole pixels, 1-based and inclusive, where a box is x2 - x1 + 1 wide. Here boxes are x, y, width,
height with exclusive ends, (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1) of the devkit's: the same overlaps, to the bit
for whole numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.results import as_results

FALSE, TRUE, NEITHER = 0, 1, -1


class Pairs(NamedTuple):
    """Detections with objects of the same image and class which they touch: by falling score of the detection, then
    by falling overlap, then as the objects are listed."""

    detections: np.ndarray  # int64 [p], ranks
    objects: np.ndarray  # int64 [p]
    overlaps: np.ndarray  # float64 [p], intersection over union


@dataclass
class Scene:
    """All detections, by falling score, beside all objects."""

    classes: list[str]
    detected: np.ndarray  # int64 [n]: class of each detection
    labels: np.ndarray  # int64 [m]: class of each object
    boxes: np.ndarray  # float64 [m, 4]: of the objects, x, y, width, height
    ignored: np.ndarray  # bool [m]: difficult, or a crowd
    pairs: Pairs

    @classmethod
    def read(cls, annotations: Any, results: Any) -> "Scene":
        """Equal scores are ranked by image id, then as in the file, so that no figure depends on how images were
        shared among processes."""
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
        pairs = overlapping(
            results.boxes[order], results.image_ids[order] * len(category_ids) + detected,
            boxes, images * len(category_ids) + labels,
        )  # fmt: skip
        ignored = np.array([any(entry.get(f) for f in ("difficult", "ignore", "iscrowd")) for entry in objects], bool)
        return cls(ground_truth.class_names(truth["categories"]), detected, labels, boxes, ignored, pairs)


def overlapping(detections: np.ndarray, groups: np.ndarray, objects: np.ndarray, object_groups: np.ndarray) -> Pairs:
    """Pairs within a group; boxes [n, 4] and [m, 4] as x, y, width, height, groups int64 [n] and [m]."""
    order = np.argsort(object_groups, kind="stable")
    first, last = (np.searchsorted(object_groups[order], groups, side) for side in ("left", "right"))
    counts = last - first
    left = np.repeat(np.arange(len(groups)), counts)
    within = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    right = order[first[left] + within]
    overlaps = iou(detections[left], objects[right])
    touching = np.flatnonzero(overlaps > 0)
    left, right, overlaps = left[touching], right[touching], overlaps[touching]
    rank = np.lexsort((right, -overlaps, left))
    return Pairs(left[rank], right[rank], overlaps[rank])


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of boxes [p, 4] and [p, 4], x, y, width, height; 0 where they only touch."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = (high - low).clip(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def summarize(
    scene: Scene, outcomes: np.ndarray, positive: np.ndarray, metric: Callable[[np.ndarray, int], float]
) -> dict[str, Any]:
    """{"mAP", "per_class": {name: {"AP", "objects"}}}; None for a class of no positive object, which the mean omits.

    `outcomes` int64 [n]: TRUE, FALSE or NEITHER; `positive` bool [m]; the metric is given the outcomes of a class
    by falling score, [k] bool, and how many positive objects it has.
    """
    totals = np.bincount(scene.labels[positive], minlength=len(scene.classes)).tolist()
    rows = {}
    for label, (name, total) in enumerate(zip(scene.classes, totals)):
        own = outcomes[scene.detected == label]
        rows[name] = {"AP": metric(own[own != NEITHER] == TRUE, total) if total else None, "objects": total}
    return {"mAP": average(row["AP"] for row in rows.values()), "per_class": rows}


def average(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def area_ap(hits: np.ndarray, total: int) -> float:
    """The whole area under the curve whose precision is made to fall only (VOC since 2010, ILSVRC)."""
    found = np.flatnonzero(hits)
    precision = np.arange(1, len(found) + 1) / (found + 1)  # where recall rises
    highest = np.maximum.accumulate(precision[::-1])
    return float(highest.sum() / total)


def eleven_point_ap(hits: np.ndarray, total: int) -> float:
    """The mean of the highest precisions at a recall of at least 0, 0.1, … 1 (VOC 2007)."""
    reached = np.cumsum(hits)
    precision = reached / np.arange(1, len(hits) + 1)
    # In whole numbers: 0.1 has no exact binary form, and a recall of just 3/10 counts for 0.3.
    best = [precision[10 * reached >= tenths * total].max(initial=0) for tenths in range(11)]
    return float(np.mean(best))
