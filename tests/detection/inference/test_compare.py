"""Matching of two programs' detections, by hand and compared with SciPy's assignment."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from resdet.detection.inference.compare import DetectionTuple, pair

BOXES = [[0, 0, 10, 10], [20, 20, 40, 40], [20, 20, 40, 40]]


def found(boxes, scores, labels, masks=None) -> DetectionTuple:
    return DetectionTuple(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, int), masks)


def test_pairs_by_hand():
    """One box is off by 2 pixels, one has no counterpart of its class, one has a score lower by 0.3."""
    mine = found(BOXES, [0.9, 0.8, 0.7], [0, 1, 2])
    others = found([[20, 20, 40, 40], [0, 0, 12, 11], [0, 0, 30, 30]], [0.4, 0.9, 0.5], [2, 0, 0])
    pairs = pair(mine, others, pixels=5, scores=0.5)
    assert pairs.expected.tolist() == [0, 2] and pairs.actual.tolist() == [1, 0] and pairs.ious is None
    assert pairs.pixels.tolist() == [2, 0] and pairs.scores.tolist() == pytest.approx([0, 0.3])


@pytest.mark.parametrize(
    "pixels, scores, kept", [(2, 0.31, [0, 2]), (1.9, 0.31, [2]), (2, 0.29, [0]), (np.inf, np.inf, [0, 2])]
)
def test_tolerances_are_applied(pixels, scores, kept):
    mine = found(BOXES, [0.9, 0.8, 0.7], [0, 1, 2])
    others = found([[0, 0, 12, 11], [20, 20, 40, 40]], [0.9, 0.4], [0, 2])
    assert pair(mine, others, pixels, scores).expected.tolist() == kept


def test_pairs_equal_the_assignment_of_least_cost():
    """Pairs detections with the same detections, shuffled and moved by up to 0.05 pixels."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 400, (60, 2))
    boxes, labels = np.concatenate([corners, corners + rng.uniform(5, 80, (60, 2))], 1), rng.integers(0, 4, 60)
    order, scores = rng.permutation(60), np.linspace(1, 0, 60)
    moved = boxes[order] + rng.uniform(-0.05, 0.05, (60, 4))
    pairs = pair(found(boxes, scores, labels), found(moved, scores[order], labels[order]), 0.05, 1e-9)
    cost = np.abs(boxes[:, None] - moved).max(2) + 1e6 * (labels[:, None] != labels[order])
    rows, columns = linear_sum_assignment(cost)
    assert pairs.expected.tolist() == rows.tolist() and pairs.actual.tolist() == columns.tolist()
    np.testing.assert_allclose(pairs.pixels, cost[rows, columns])


def test_mask_ious_of_pairs():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :2], masks[1, :, :2] = True, True
    others = masks[::-1].copy()
    others[1, 0, 0] = False  # one of eight pixels
    mine = found(BOXES[:2], [0.9, 0.8], [0, 1], masks)
    pairs = pair(mine, found(BOXES[1::-1], [0.8, 0.9], [1, 0], others), 1, 1)
    assert pairs.ious.tolist() == pytest.approx([7 / 8, 1])


@pytest.mark.parametrize("here, there", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_pair(here, there):
    sides = (found(BOXES[:count], [0.5] * count, [0] * count, np.ones((count, 4, 4), bool)) for count in (here, there))
    pairs = pair(*sides, np.inf, np.inf)
    assert len(pairs) == 0 and len(pairs.pixels) == len(pairs.ious) == 0


def test_keypoints_are_compared_by_pair():
    """Lists two detections in opposite orders; one of the keypoints is 2 pixels to the left and 3 down."""
    boxes, keypoints = np.array([[0.0, 0, 9, 9], [20, 0, 29, 9]]), np.array([[[1.0, 1, 5]], [[21, 1, 5]]])
    order, moved = [1, 0], np.array([[[0.0, 0, 1]], [[-2, 3, 1]]])
    expected = DetectionTuple(boxes, np.ones(2), np.zeros(2, int), None, keypoints)
    actual = DetectionTuple(boxes[order], np.ones(2), np.zeros(2, int), None, (keypoints + moved)[order])
    assert pair(expected, actual, 0.1, 0.1).keypoints.tolist() == [[0], [3]]
