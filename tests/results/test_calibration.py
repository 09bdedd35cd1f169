"""Tests calibration against hotcoco and by hand."""

import coco_scenes
import numpy as np
import pytest

from resdet.detection.evaluation.coco_engines import hotcoco_evaluator
from resdet.detection.evaluation.results import Results
from resdet.detection.report.matches import Matches
from resdet.results.calibration import calibrate


@pytest.mark.parametrize("seed", range(4))
def test_calibration_matches_hotcoco(seed):
    truth, entries = coco_scenes.make(seed)
    for entry in entries:
        entry["score"] = min(entry["score"] + 0.0123, 0.999)  # no score on the border of two bins
    results = Results.from_list(entries)
    matches = Matches.of(truth, results)
    kept = ~matches.ignored[0]
    _, evaluator = hotcoco_evaluator(truth, results, "bbox")
    evaluator.evaluate()
    expected = evaluator.calibration(n_bins=10, iou_threshold=0.5)
    found = calibrate(matches.scores[kept], matches.hit[0, kept])
    assert found.error == pytest.approx(expected["ece"])
    filled = [row for row in expected["bins"] if row["count"]]
    assert found.counts.tolist() == [row["count"] for row in filled]
    np.testing.assert_allclose(found.accuracy, [row["avg_accuracy"] for row in filled])


def test_calibration_by_hand():
    found = calibrate(np.array([0.95, 0.85, 0.85, 1.0]), np.array([True, False, True, True]))
    assert found.counts.tolist() == [2, 2] and found.accuracy.tolist() == [0.5, 1]
    assert found.error == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)
    assert calibrate(np.zeros(0), np.zeros(0, bool)).error == 0
