"""Objects whose labels the model contradicts: candidates for annotation errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.confusion import by_image, overlap
from resdet.detection.evaluation.results import Results

MISSING, OTHER = "no label", "other class"
BACKGROUND_IOU, MATCH_IOU = 0.1, 0.5  # as in TIDE


@dataclass(frozen=True)
class Doubt:
    kind: str  # MISSING or OTHER
    row: int  # the detection's row in the results
    score: float
    object: dict[str, Any] | None  # annotation of another class


def label_doubts(truth: Any, results: Results, score: float) -> list[Doubt]:
    """Returns detections with at least this score that touch no object (IoU below 0.1), or lie on an object of another
    class (IoU of at least 0.5) and on none of their own, by descending score. Each object is doubted at most once, and
    not at all if a higher-scoring detection of its class lies on it."""
    content = ground_truth.read(truth)
    doubts = []
    for objects, rows in by_image(content, results, score):
        overlaps = overlap(objects, results, rows, "bbox")
        doubts += doubts_of(objects, rows, results.category_ids[rows], results.scores[rows], overlaps)
    return sorted(doubts, key=lambda doubt: -doubt.score)


def doubts_of(
    objects: list[dict[str, Any]], rows: list[int], categories: np.ndarray, scores: np.ndarray, overlaps: np.ndarray
) -> list[Doubt]:
    """Returns the doubts of an image; detections by descending score, overlaps [D, G]."""
    owners = np.array([entry["category_id"] for entry in objects], np.int64)
    crowd = np.array([bool(entry["iscrowd"]) for entry in objects], bool)
    settled = np.zeros(len(objects), bool)
    doubts = []
    for row, category, score, shares in zip(rows, categories, scores.tolist(), overlaps):
        if not (shares >= BACKGROUND_IOU).any():
            doubts.append(Doubt(MISSING, row, score, None))
            continue
        lies_on = shares >= MATCH_IOU
        own, others = lies_on & (owners == category), lies_on & ~crowd & ~settled
        settled |= own if own.any() else lies_on
        if others.any() and not own.any():
            doubts.append(Doubt(OTHER, row, score, objects[int(np.where(others, shares, 0).argmax())]))
    return doubts
