"""Precision, recall and F1 against the lowest score, and the threshold to use a detector with."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoreCurves:
    """Detections of at least each distinct score, which descend; [n] each."""

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
    """Scores [n] in descending order, hit bool [n], of `total` objects."""
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    true, seen = np.cumsum(hit)[last], last + 1
    return ScoreCurves(scores[last], true / seen, true / max(total, 1), 2 * true / (seen + total))


def choose_threshold(curves: ScoreCurves, precision: float | None = None) -> Threshold | None:
    """The score of the highest F1, or of the highest recall with at least this precision; None if there is none, or if
    nothing is found. Of several, the highest score."""
    allowed = (curves.f1 > 0) & (curves.precision >= (precision or 0))
    if not allowed.any():
        return None
    best = int(np.argmax(np.where(allowed, curves.f1 if precision is None else curves.recall, -1)))
    return Threshold(*(float(column[best]) for column in (curves.scores, curves.precision, curves.recall, curves.f1)))
