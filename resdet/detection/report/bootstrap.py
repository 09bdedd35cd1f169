"""AP over resampled images.

Detections are matched once. A resample weights each image by how often it was drawn, which gives exactly the AP of a
data set with these copies.
"""

from collections.abc import Sequence

import numpy as np

from resdet.detection.evaluation.coco import RECALLS
from resdet.detection.report.matches import Matches

CELLS = 1 << 24  # resamples × detections computed at once


def average_precisions(matches: Matches, copies: np.ndarray) -> np.ndarray:
    """Returns the AP of each resample [R, I], IoU threshold and class, float64 [R, T, K]; NaN without objects."""
    result = np.full((len(copies), len(matches.ious), len(matches.classes)), np.nan)
    for label in range(len(matches.classes)):
        objects = matches.object_images[(matches.object_labels == label) & matches.counted]
        totals = copies[:, objects].sum(1)
        rows = np.flatnonzero(matches.labels == label)
        parts = max(1, len(copies) * len(rows) // CELLS)
        aps = np.concatenate([class_aps(matches, rows, *part) for part in zip(*split((copies, totals), parts))])
        result[:, :, label] = np.where(totals[:, None] > 0, aps, np.nan)
    return result


def split(arrays: Sequence[np.ndarray], parts: int) -> list[list[np.ndarray]]:
    return [np.array_split(array, parts) for array in arrays]


def class_aps(matches: Matches, rows: np.ndarray, copies: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Returns the AP [R, T] of the detections `rows` of a class with `totals` [R] objects."""
    drawn = copies[:, matches.images[rows]]
    seen = drawn.cumsum(1, dtype=np.int32)
    columns = [
        interpolated_ap(drawn, seen, hit, ignored, totals)
        for hit, ignored in zip(matches.hit[:, rows], matches.ignored[:, rows])
    ]
    return np.stack(columns, 1)


def interpolated_ap(
    drawn: np.ndarray, seen: np.ndarray, hit: np.ndarray, ignored: np.ndarray, totals: np.ndarray
) -> np.ndarray:
    """Returns COCO's AP [R] at 101 recalls. Detections by descending score: copies [R, n] and their cumulative sum, hit
    and ignored bool [n]; `totals` [R] objects."""
    if ignored.any():
        seen = seen - (drawn * ignored).cumsum(1, dtype=np.int32)
    at = np.flatnonzero(hit)  # only there does recall increase and precision peak
    true = drawn[:, at].cumsum(1, dtype=np.int32)
    precision = true / np.maximum(seen[:, at], 1)
    highest = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    reached = np.searchsorted(RECALLS, true / np.maximum(totals, 1)[:, None], side="right")
    return (np.diff(reached, axis=1, prepend=0) * highest).sum(1) / len(RECALLS)


def overall(aps: np.ndarray) -> np.ndarray:
    """Returns the mean of AP [R, K] over classes with objects: [R]."""
    present = ~np.isnan(aps)
    return np.where(present, aps, 0).sum(1) / np.maximum(present.sum(1), 1)
