"""Tests keypoints of results: export to COCO, JSON, torchvision and pandas, selection and drawing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from resdet.results.result import Result
from resdet.results.visualizer import color, draw_keypoints

NAMES = ["nose", "left_eye", "right_eye"]


def result() -> Result:
    points = np.array(
        [[(20.5, 10.5, 9.0), (40.5, 30.5, 5.0), (30, 48, -1.0)], [(60, 50, 3.0), (62, 52, 3.0), (64, 54, 3.0)]],
        np.float32,
    )
    return Result(
        boxes=np.array([(10, 5, 50, 55), (55, 45, 70, 58)], np.float32),
        scores=np.array([0.9, 0.3], np.float32),
        labels=np.array([0, 0]),
        names=["person", "person"],
        category_ids=np.array([1, 1]),
        size=(60, 80),
        image=np.zeros((60, 80, 3), np.uint8),
        keypoints=points,
        keypoint_names=NAMES,
        skeleton=[(0, 1), (0, 2)],
    )


def test_keypoints_in_to_coco():
    """Checks the shift by half a pixel, visibilities of 1, and the separate scores."""
    entry = result().to_coco(7)[0]
    assert entry["keypoints"] == [20, 10, 1, 40, 30, 1, 29.5, 47.5, 1]
    assert entry["keypoint_scores"] == [9.0, 5.0, -1.0]
    json.dumps(entry)


def test_keypoints_in_to_dict():
    written = json.loads(json.dumps(result().to_dict()))
    assert written["detections"][0]["keypoints"]["left_eye"] == [40.5, 30.5, 5.0]
    assert list(written["detections"][1]["keypoints"]) == NAMES


def test_keypoints_in_to_torchvision():
    given = result().to_torchvision()
    assert given["keypoints"][0].tolist() == [[20.5, 10.5, 1], [40.5, 30.5, 1], [30, 48, 1]]
    assert torch.equal(given["keypoints_scores"], torch.tensor([[9.0, 5.0, -1.0], [3.0, 3.0, 3.0]]))


def test_keypoints_in_to_pandas():
    pytest.importorskip("pandas")
    table = result().to_pandas()
    assert table["left_eye_x"].tolist() == [40.5, 62] and table["right_eye_score"].tolist() == [-1, 3]


def test_selection_applies_to_keypoints():
    chosen = result().select([1])
    assert chosen.keypoints.tolist() == result().keypoints[1:].tolist() and chosen.keypoint_names == NAMES
    assert len(result().above(0.5).keypoints) == 1
    assert result().select([]).to_coco(1) == [] and result().select([]).keypoints.shape == (0, 3, 3)


def test_keypoints_and_limbs_are_drawn():
    """Checks that a keypoint with a score of 2 or less, a logit as in Detectron, and its limb are not drawn."""
    one = result().above(0.5)
    one.keypoints[0, 2, 2] = 2
    canvas = np.zeros((60, 80, 3), np.uint8)
    draw_keypoints(canvas, one.keypoints, [0], one.skeleton)
    drawn = canvas.any(2)
    assert drawn[10, 20] and drawn[30, 40] and drawn[20, 30]  # both keypoints, and the middle of the limb
    assert not drawn[48, 30] and not drawn[29, 25]
    assert (canvas[10, 20] == color(0)).all()
    bare = replace(one, keypoints=None)
    assert (one.draw()[10, 20] == color(0)).all() and (one.draw() != bare.draw()).any()


def test_keypoints_outside_the_image_can_be_drawn():
    one = result()
    one.keypoints[..., :2] += 1000
    one.draw()
