"""Precision, recall and F1 against the score threshold, and the choice of a threshold."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoreCurves:
    """Metrics of detections with at least each distinct score, in descending order; [n] each."""

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


@dataclass(frozen=True)
class Threshold:
    score: float
    precision: float
    recall: float
    f1: float


def score_curves(scores: np.ndarray, hit: np.ndarray, total: int) -> ScoreCurves:
    """Computes curves from scores [n] in descending order, hit bool [n], and `total` objects."""
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    true, seen = np.cumsum(hit)[last], last + 1
    return ScoreCurves(scores[last], true / seen, true / max(total, 1), 2 * true / (seen + total))


def choose_threshold(curves: ScoreCurves, precision: float | None = None) -> Threshold | None:
    """Returns the score with the highest F1, or with the highest recall at this precision or more, and the highest of
    several such scores; None if there is none, or if nothing is found."""
    allowed = (curves.f1 > 0) & (curves.precision >= (precision or 0))
    if not allowed.any():
        return None
    best = int(np.argmax(np.where(allowed, curves.f1 if precision is None else curves.recall, -1)))
    return Threshold(*(float(column[best]) for column in (curves.scores, curves.precision, curves.recall, curves.f1)))
