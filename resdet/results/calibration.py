"""Calibration: whether predictions with a score of 0.8 are correct in 80 % of the cases."""

from dataclasses import dataclass

import numpy as np

from resdet.results.plot import Line
from resdet.results.sections import Chart, Part, facts

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Predictions in nonempty score bins of equal width."""

    scores: np.ndarray  # float64 [b]: mean score per bin
    accuracy: np.ndarray  # float64 [b]: fraction of correct predictions
    counts: np.ndarray  # int64 [b]: number of predictions
    error: float  # expected calibration error


def calibrate(scores: np.ndarray, correct: np.ndarray) -> Calibration:
    """Bins predictions by their scores [n], from 0 to 1; `correct`: bool [n].

    The expected calibration error (Guo et al., ICML 2017) is the mean of |accuracy - score| over the bins, weighted by
    their counts; 0 without predictions.
    """
    places = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    filled = counts > 0
    score, accuracy = (
        np.bincount(places, values.astype(float), BINS)[filled] / counts[filled] for values in (scores, correct)
    )
    error = float((np.abs(accuracy - score) * counts[filled]).sum() / max(len(scores), 1))
    return Calibration(score, accuracy, counts[filled], error)


def calibration_parts(calibration: Calibration) -> list[Part]:
    """Returns the reliability diagram and the expected calibration error."""
    measured = Line("measured", calibration.scores.tolist(), calibration.accuracy.tolist(), 0)
    lines = [measured, Line("perfect", [0, 1], [0, 1], 9, thin=True)]
    note = "Below the diagonal, scores are too high."
    chart = Chart("reliability", "Reliability diagram", lines, "mean score of the bin", "share correct", note, top=1)
    values = {"expected calibration error": calibration.error, "predictions": int(calibration.counts.sum())}
    return [chart, facts("calibration", "Calibration error", values)]
