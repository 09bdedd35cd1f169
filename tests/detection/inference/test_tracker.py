"""Tests tracking on boxes with known paths: occlusion, crossing objects, low scores, classes, and false detections."""

import numpy as np
import pytest

from resdet.detection import Tracker
from resdet.detection.inference import kalman
from resdet.detection.inference.kalman import POSITION, VELOCITY
from resdet.results.result import Result

SIZE = (480, 640)


def frame(*objects):
    """Builds the result of a frame from (x, y, score, label) of objects of 40 x 40 pixels."""
    rows = np.array(objects, float).reshape(-1, 4)
    boxes = np.concatenate([rows[:, :2] - 20, rows[:, :2] + 20], 1).astype(np.float32)
    return Result.of(boxes, rows[:, 2].astype(np.float32), rows[:, 3].astype(np.int64), ["a", "b"], SIZE)


def ids(tracker, *frames):
    return [tracker.update(each).track_ids.tolist() for each in frames]


def moving(x, y, step, count, score=0.9, label=0):
    return [(x + step * t, y, score, label) for t in range(count)]


def test_objects_keep_their_ids_while_detections_change_their_order():
    one, other = moving(50, 100, 6, 20), moving(500, 300, -6, 20)
    frames = [frame(*((a, b) if t % 2 else (b, a))) for t, (a, b) in enumerate(zip(one, other))]
    tracker = Tracker()
    results = [tracker.update(each) for each in frames]
    assert results[0].track_ids.tolist() == [1, 2]
    number = {id: result.boxes[list(result.track_ids).index(id)] for result in results for id in (1, 2)}
    assert number[1][0] < 400 and number[2][0] < 200  # the last boxes: the object moving left has the id 1
    assert all(sorted(result.track_ids) == [1, 2] for result in results)


def test_an_occluded_object_is_found_again_where_its_velocity_takes_it():
    path = moving(50, 100, 10, 40)
    frames = [frame(*([] if 15 <= t < 25 else [place])) for t, place in enumerate(path)]
    seen = ids(Tracker(), *frames)
    assert seen[:15] == [[1]] * 15 and seen[15:25] == [[]] * 10
    assert seen[25:] == [[1]] * 15  # 100 pixels further: its last box does not overlap


def test_crossing_objects_keep_their_ids():
    left, right = moving(100, 200, 8, 40), moving(420, 200, -8, 40)
    tracker = Tracker()
    results = [tracker.update(frame(*pair)) for pair in zip(left, right)]
    assert results[0].track_ids.tolist() == [1, 2]
    assert all(result.track_ids.tolist() == [1, 2] for result in results[-10:])  # in the order of `left` and `right`


def test_low_scores_continue_a_track_and_start_none():
    path = moving(50, 100, 4, 30)
    scores = [0.9] * 10 + [0.2] * 10 + [0.05] * 2 + [0.9] * 8
    frames = [frame((x, y, score, 0), (400, 400, 0.4, 0)) for (x, y, _, _), score in zip(path, scores)]
    assert ids(Tracker(), *frames) == [[1]] * 20 + [[]] * 2 + [[1]] * 8


def test_the_score_starts_tracks():
    frames = [frame((100, 100, 0.4, 0))] * 3
    assert ids(Tracker(score=0.3), *frames) == [[1]] * 3 and ids(Tracker(), *frames) == [[]] * 3
    assert ids(Tracker(score=0.4), *[frame((100, 100, 0.5, 0))] * 2) == [[1]] * 2


def test_a_lost_object_is_not_continued_by_a_low_score():
    """A detection with a low score continues only a track of the previous frame."""
    frames = [frame((100, 100, score, 0)) for score in (0.9, 0.9, 0.05, 0.3, 0.9)]
    assert ids(Tracker(), *frames) == [[1], [1], [], [], [1]]


def test_classes_do_not_mix():
    frames = [frame((100, 100, 0.9, t >= 5)) for t in range(8)]
    assert ids(Tracker(), *frames) == [[1]] * 5 + [[], [2], [2]]


def test_a_single_false_detection_has_no_id():
    frames = [frame((100, 100, 0.9, 0), *([(400, 300, 0.8, 0)] if t == 4 else [])) for t in range(8)]
    assert ids(Tracker(), *frames) == [[1]] * 8
    later = [frame((100, 100, 0.9, 0), *([(400, 300, 0.8, 0)] if t >= 4 else [])) for t in range(8)]
    assert ids(Tracker(), *later) == [[1]] * 5 + [[1, 2]] * 3


def test_a_track_ends_after_the_given_number_of_frames():
    seen = lambda gap, lost: ids(Tracker(lost=lost), *[frame((100, 100, 0.9, 0))] * 3, *[frame()] * gap, *AGAIN)
    assert seen(5, 5)[-2:] == [[1], [1]]
    assert seen(6, 5)[-2:] == [[], [2]]


AGAIN = [frame((100, 100, 0.9, 0))] * 2


def test_an_empty_video():
    assert ids(Tracker(), frame(), frame()) == [[], []]


def test_the_filter_equals_a_kalman_filter_of_eight_states():
    """Compares with matrices: x' = F x, P' = F P F' + Q, and the update with R, for a box that grows and moves."""
    rng = np.random.default_rng(0)
    box = np.array([[100.0, 80, 140, 160]])
    (found,) = kalman.start(box)
    sides = np.tile([40.0, 80.0], 2)
    state = np.r_[120, 120, 40, 80, np.zeros(4)]
    covariance = np.diag(np.r_[(2 * POSITION * sides) ** 2, (10 * VELOCITY * sides) ** 2])
    step, seen = np.eye(8) + np.eye(8, k=4), np.eye(4, 8)
    for _ in range(12):
        (found,) = kalman.predict(found[None], np.array([False]))
        state = step @ state
        sides = np.tile(state[2:4], 2)
        noise = np.diag(np.r_[(POSITION * sides) ** 2, (VELOCITY * sides) ** 2])
        covariance = step @ covariance @ step.T + noise
        assert np.allclose(found, expected(state, covariance))
        box = box + [5, 2, 7, 3] + rng.normal(0, 1, 4)
        (found,) = kalman.update(found[None], box)
        total = seen @ covariance @ seen.T + np.diag((POSITION * sides) ** 2)
        gain = covariance @ seen.T @ np.linalg.inv(total)
        measured = np.r_[(box[0, :2] + box[0, 2:]) / 2, box[0, 2:] - box[0, :2]]
        state = state + gain @ (measured - seen @ state)
        covariance = (np.eye(8) - gain @ seen) @ covariance
        assert np.allclose(found, expected(state, covariance))


def expected(state, covariance):
    variances = np.diag(covariance)
    return np.stack([state[:4], state[4:], variances[:4], np.diag(covariance, 4), variances[4:]])


def test_lost_objects_keep_their_size():
    states = kalman.start(np.array([[100.0, 100, 140, 140]] * 2))
    for growth in range(1, 6):
        grown = np.array([[100.0 + 5 * growth, 100, 140 + 10 * growth, 140 + 5 * growth]] * 2)
        states = kalman.update(kalman.predict(states, np.array([False, False])), grown)
    lost, seen = (kalman.predict(states, np.array([True, False])) - states)[:, 0]
    assert lost[2:].tolist() == [0, 0] and lost[:2].min() > 1 and (seen[2:] > 1).all()
    box = kalman.boxes_of(states)[0]
    assert box == pytest.approx([125, 100, 190, 165], abs=6)
