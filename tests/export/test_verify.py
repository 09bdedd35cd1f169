"""Tests what counts as agreement of an exported model with its checkpoint."""

import numpy as np
import pytest
import torch

from resdet.errors import Error
from resdet.export.verify import IOU, PIXELS, SCORES, SHARE, compare_results, compare_scores, require_agreement
from resdet.ops.rle import encode
from resdet.results.result import Result

COUNT = 40


def result(boxes: np.ndarray, scores: np.ndarray, width: int | None = None) -> Result:
    """Detections of one class, with masks of `width` columns if given."""
    found = Result.of(boxes, scores, np.zeros(len(boxes), np.int64), ["disc"], (20, 500))
    if width:
        masks = torch.zeros(len(boxes), 20, 500, dtype=torch.bool)
        masks[:, :, :width] = True
        found.rles = encode(masks, (20, 500))
    return found


def detections(moved: int = 0, pixels: float = 0.0, score: float = 0.0, width: int | None = None) -> Result:
    """Boxes side by side; the first `moved` are shifted and have another score."""
    boxes = np.array([[12 * n, 0, 12 * n + 10, 10] for n in range(COUNT)], np.float32)
    scores = np.linspace(0.9, 0.1, COUNT, dtype=np.float32)
    boxes[:moved] += pixels
    scores[:moved] += score
    return result(boxes, scores, width)


FEW = int((1 - SHARE) * COUNT + 1e-6)  # detections that may differ


@pytest.mark.parametrize(
    "actual, agrees",
    [
        (detections(COUNT, PIXELS / 2, SCORES / 2), True),
        (detections(FEW, 1.0), True),
        (detections(FEW + 1, 1.0), False),
        (detections(FEW + 1, 0.0, 10 * SCORES), False),
        (result(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)), False),
    ],
    ids=["rounded", "few moved", "more moved", "other scores", "none"],
)
def test_boxes_and_scores_of_most_detections_agree(actual, agrees):
    assert compare_results(detections(), actual)[0] is agrees


def test_masks_agree():
    expected = detections(width=200)
    assert compare_results(expected, detections(width=200))[0]
    assert 199 / 200 > IOU and compare_results(expected, detections(width=199))[0]
    assert not compare_results(expected, detections(width=190))[0]


@pytest.mark.parametrize(
    "apart, moved, agrees", [(1.0, 2 * COUNT, True), (9.0, 2 * FEW, True), (9.0, 2 * FEW + 1, False)]
)
def test_keypoints_agree(apart, moved, agrees):
    """Checks that most of the keypoints, two per detection, are in the same place or in the next one."""
    expected, actual = detections(), detections()
    expected.keypoints = np.zeros((COUNT, 2, 3), np.float32)
    actual.keypoints = np.zeros((COUNT, 2, 3), np.float32)
    actual.keypoints.reshape(-1, 3)[:moved, 1] = apart
    actual.keypoints[..., 2] = 7  # scores do not count
    assert compare_results(expected, actual)[0] is agrees
    expected.keypoints = None
    assert compare_results(expected, actual)[0]


@pytest.mark.parametrize("apart, agrees", [(SCORES / 2, True), (10 * SCORES, False), (0.6, False)])
def test_probabilities_of_a_classifier_agree(apart, agrees):
    """Moves probability from the first class, 0.7, to the second, 0.3."""
    expected, actual = torch.tensor([[0.7, 0.3]]).log(), torch.tensor([[0.7 - apart, 0.3 + apart]]).log()
    assert compare_scores(expected, actual)[0] is agrees


def test_a_difference_is_an_error():
    require_agreement(True, "")
    with pytest.raises(Error, match=r"differ from the checkpoint's \(apart\): nothing was written"):
        require_agreement(False, "apart")
