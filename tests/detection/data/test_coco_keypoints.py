"""Keypoints of COCO files: read, damaged, composed as ground truth, and kept in the index."""

import copy
import json

import cv2
import numpy as np
import pytest

from resdet.detection.data.annotations import concatenate
from resdet.detection.data.coco import from_coco, open_coco
from resdet.detection.data.dataset import DetectionDataset
from resdet.errors import DataError

POINTS = [12, 10, 2, 0, 0, 0, 30, 29, 1]


def content() -> dict:
    """Two images; a person with keypoints, one with none labeled, a crowd without the key, and a ball."""
    rest = {"image_id": 1, "area": 100, "iscrowd": 0}
    return {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 40, "height": 30} for k in (1, 2)],
        "categories": [
            {"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]},
            {"id": 5, "name": "ball"},
        ],
        "annotations": [
            {"id": 1, "category_id": 1, "bbox": [10, 8, 21, 22], "keypoints": POINTS, "num_keypoints": 2, **rest},
            {"id": 2, "category_id": 1, "bbox": [1, 1, 5, 5], "keypoints": [0] * 9, "num_keypoints": 0, **rest},
            {"id": 3, "category_id": 1, "bbox": [0, 0, 40, 30], **rest, "iscrowd": 1},
            {"id": 4, "category_id": 5, "bbox": [2, 3, 4, 5], **rest},
        ],
    }


def opened(tmp_path, given: dict, **options):
    (tmp_path / "file.json").write_text(json.dumps(given))
    return open_coco(tmp_path / "file.json", tmp_path, **options)


def test_coordinates_are_shifted_by_half_a_pixel(tmp_path):
    """COCO's coordinates are those of pixel centers; unlabeled keypoints stay zero."""
    for _ in range(2):  # the second time from the index
        source = opened(tmp_path, content())
        assert source.keypoints.names == ["nose", "left_eye", "right_eye"]
        assert source.keypoints.skeleton == [(0, 1), (0, 2)] and source.has_keypoints and source.intact
        points = source.objects(0).keypoints.points
        assert points.shape == (4, 3, 3) and points.dtype == np.float32
        assert points[0].tolist() == [[12.5, 10.5, 2], [0, 0, 0], [30.5, 29.5, 1]]
        assert not points[1:].any()
        assert source.objects(1).keypoints.points.shape == (0, 3, 3)


def test_keypoints_can_be_left_out(tmp_path):
    given = content()
    given["annotations"][0]["keypoints"] = [1, 2]
    source = opened(tmp_path, given, keypoints=False)
    assert source.keypoints is None and source.objects(0).keypoints is None and not source.has_keypoints
    assert len(source.objects(0)) == 4


def test_files_without_keypoints(tmp_path):
    given = content()
    del given["categories"][0]["keypoints"]
    assert opened(tmp_path, given).keypoints is None


@pytest.mark.parametrize(
    "points, word",
    [([1, 2, 2], "list of 9 numbers"), ("text", "list of 9 numbers"), ([*POINTS[:8], "2"], "list of 9 numbers"),
     ([float("nan"), *POINTS[1:]], "list of 9 numbers"), ([*POINTS[:8], 3], "none of 0, 1 and 2")],
)  # fmt: skip
def test_damaged_keypoints(tmp_path, points, word):
    given = content()
    given["annotations"][0]["keypoints"] = points
    with pytest.raises(DataError, match=word):
        opened(tmp_path, given, on_bad="error")
    source = opened(tmp_path, given)
    assert len(source.objects(0)) == 3 and word in source.problems[0] and not source.intact
    assert len(source.to_coco()["annotations"]) == 3


@pytest.mark.parametrize(
    "change, word",
    [({"keypoints": ["nose", "nose"]}, "list of different names"), ({"keypoints": "nose"}, "list of different names"),
     ({"skeleton": [[0, 1]]}, "pairs from 1 to 3"), ({"skeleton": [[1, 2, 3]]}, "pairs from 1 to 3")],
)  # fmt: skip
def test_damaged_categories(tmp_path, change, word):
    given = content()
    given["categories"][0] |= change
    with pytest.raises(DataError, match=word):
        opened(tmp_path, given)


def test_categories_with_different_keypoints(tmp_path):
    given = content()
    given["categories"][1]["keypoints"] = ["center"]
    with pytest.raises(DataError, match="different keypoints"):
        opened(tmp_path, given)


def test_composed_ground_truth_equals_the_input(tmp_path):
    """Composes the ground truth of a dict, which has no file, and of two concatenated data sets."""
    given = content()
    source = from_coco(copy.deepcopy(given), tmp_path)
    for made, images in ((source, 1), (concatenate([source, source]), 2)):
        written = made.to_coco()
        assert written["categories"][0]["keypoints"] == given["categories"][0]["keypoints"]
        assert written["categories"][0]["skeleton"] == given["categories"][0]["skeleton"]
        assert len(written["annotations"]) == 4 * images
        for entry in written["annotations"][::4]:
            assert entry["keypoints"] == POINTS and entry["num_keypoints"] == 2


def test_samples_in_torchvisions_format(tmp_path):
    for k in (1, 2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.zeros((30, 40, 3), np.uint8))
    samples = DetectionDataset(opened(tmp_path, content()))
    assert samples[0][1]["keypoints"][0].tolist() == [[12.5, 10.5, 2], [0, 0, 0], [30.5, 29.5, 1]]
    assert samples[1][1]["keypoints"].shape == (0, 3, 3)


def test_sets_with_other_keypoints_cannot_be_concatenated(tmp_path):
    """Concatenation would lose the keypoints of one data set."""
    parts = [opened(tmp_path, content()), opened(tmp_path, content(), keypoints=False)]
    with pytest.raises(DataError, match="data.keypoints=false"):
        concatenate(parts)
