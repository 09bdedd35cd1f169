"""Keypoints in ultralytics' YOLO pose format, and their conversion by `resdet data convert`."""

import json

import numpy as np
import pytest
import yaml
from detection.formats.samples import opened, write
from running import here
from tasks import corners

from resdet.detection.data.coco import open_coco
from resdet.errors import DataError

BOX = "0 0.5 0.5 0.5 0.5"
THREE = "0.1 0.2 2 0.3 0.4 1 0 0 0"  # x, y and visibility of three keypoints, in 60 × 40 pixels
POINTS = [[6.5, 8.5, 2], [18.5, 16.5, 1], [0, 0, 0]]  # COCO's coordinates plus half a pixel


def pose(root, line=f"{BOX} {THREE}", **keys):
    """Writes a folder of two images, each with the label `line`."""
    files = {f"images/{split}/{split}.jpg": None for split in ("train", "val")}
    files |= {f"labels/{split}/{split}.txt": line for split in ("train", "val")}
    described = {"train": "images/train", "val": "images/val", "names": ["person"], "kpt_shape": [3, 3], **keys}
    return write(root, files | {"data.yaml": yaml.safe_dump(described)})


def test_keypoints_of_an_object(tmp_path):
    source = opened(pose(tmp_path, flip_idx=[1, 0, 2]), on_bad_annotation="error")
    assert source.keypoints.names == ["left_1", "right_1", "point_3"] and source.mirror.tolist() == [1, 0, 2]
    found = source.objects(0)
    np.testing.assert_allclose(found.keypoints.points, [POINTS], atol=1e-5)
    assert found.boxes.tolist() == [[15, 10, 45, 30]] and not source.has_masks
    assert source.to_coco()["annotations"][0]["num_keypoints"] == 2
    assert opened(tmp_path, on_bad_annotation="error", keypoints=False).keypoints is None  # not from the index


def test_keypoints_without_visibility(tmp_path):
    """As in ultralytics, negative coordinates are unlabeled keypoints, and (0, 0) is a placeholder."""
    line = f"{BOX} 0.1 0.2 -1 0.4 0 0 0 0.4"
    points = opened(pose(tmp_path, line, kpt_shape=[4, 2])).objects(0).keypoints.points
    np.testing.assert_allclose(points, [[POINTS[0], [0, 0, 0], [0, 0, 0], [0.5, 16.5, 2]]], atol=1e-5)


@pytest.mark.parametrize("line", [f"{BOX} {THREE} 0.9", f"{BOX}\n{BOX} {THREE}\n", f"{BOX} 0.9\n{BOX} {THREE}"])
def test_scores_and_objects_without_keypoints(line, tmp_path):
    found = opened(pose(tmp_path, line), on_bad_annotation="error").objects(0)
    np.testing.assert_allclose(found.keypoints.points[-1], POINTS, atol=1e-5)
    assert not found.keypoints.points[:-1].any() and len(found) == line.count(BOX)


NOSE, NUMBERS = ["nose", "left_eye", "right_eye"], ["point_1", "point_2", "point_3"]


@pytest.mark.parametrize(
    "keys, names, mirror",
    [
        ({}, NUMBERS, [0, 1, 2]),
        ({"kpt_names": {0: NOSE}}, NOSE, [0, 2, 1]),
        ({"kpt_names": {0: NOSE}, "flip_idx": [0, 2, 1]}, NOSE, [0, 2, 1]),
        ({"kpt_names": {0: NOSE}, "flip_idx": [0, 1, 2]}, NUMBERS, [0, 1, 2]),
        ({"kpt_names": {0: NOSE, 1: NUMBERS}, "flip_idx": [2, 1, 0]}, ["left_1", "point_2", "right_1"], [2, 1, 0]),
        ({"kpt_names": {0: ["a", "a", "b"]}}, NUMBERS, [0, 1, 2]),
        ({"kpt_names": {0: NOSE, 1: ["a", "b", "c"]}}, NUMBERS, [0, 1, 2]),
    ],
)
def test_names_and_mirror_pairs(keys, names, mirror, tmp_path):
    source = opened(pose(tmp_path, **keys))
    assert source.keypoints.names == names and source.mirror.tolist() == mirror


@pytest.mark.parametrize("flip", [[0, 1], [0, 1, 3], [1, 2, 0], "x", ["a", 1, 2]])
def test_invalid_mirror_pairs_are_refused(flip, tmp_path):
    with pytest.raises(DataError, match="data.yaml: flip_idx is not a list of 3 numbers that swaps keypoints in pairs"):
        opened(pose(tmp_path, flip_idx=flip))


@pytest.mark.parametrize("shape", [[3], [3, 4], [0, 3], "3, 3", [3, "x"], [9999, 3], None])
def test_an_invalid_keypoint_shape_leaves_boxes_only(shape, tmp_path):
    source = opened(pose(tmp_path, BOX, kpt_shape=shape))
    assert source.keypoints is None and source.objects(0).boxes.tolist() == [[15, 10, 45, 30]]


def test_an_invalid_visibility_is_reported(tmp_path):
    source = opened(pose(tmp_path, f"{BOX} 0.1 0.2 7 0.3 0.4 1 0 0 0"))
    assert "visibility of keypoints that is none of 0, 1 and 2: labels/train/train.txt:1" in source.problems[0]


def convert(source, target, to):
    done = here(target.parent, "data", "convert", source, target, "--to", to, "--json", target.parent / "said.json")
    assert done.returncode == 0, done.stderr
    return json.loads((target.parent / "said.json").read_text())


def test_keypoints_round_trip_through_yolo(tmp_path):
    """Data read from COCO and from YOLO are equal, except for the skeleton."""
    root = corners.write(tmp_path / "corners", train=4, val=2)
    said = convert(root, tmp_path / "yolo", "yolo")
    assert said["lost"] == {"lines of the skeleton": len(corners.SKELETON)}
    described = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert described["kpt_shape"] == [4, 3] and described["flip_idx"] == [1, 0, 3, 2]
    assert described["kpt_names"] == {0: corners.NAMES}
    assert convert(tmp_path / "yolo", tmp_path / "coco", "coco")["lost"] == {}
    for split in ("train", "val"):
        expected = open_coco(root / "annotations" / f"{split}.json", root / split)
        for place in (tmp_path / "yolo", tmp_path / "coco"):
            source = opened(place, split, on_bad_annotation="error")
            assert source.keypoints.names == corners.NAMES and source.mirror.tolist() == expected.mirror.tolist()
            for i in range(len(expected)):
                row = next(k for k in range(len(source)) if source.files[k].endswith(expected.files[i]))
                own, other = source.objects(row), expected.objects(i)
                np.testing.assert_allclose(own.boxes, other.boxes, atol=1e-3)
                np.testing.assert_allclose(own.keypoints.points, other.keypoints.points, atol=1e-3)


def test_losses_of_pose_labels_are_counted(tmp_path):
    """YOLO loses masks if all classes have keypoints, and keypoints if only some have them."""
    root = corners.write(tmp_path / "corners", train=4, val=2)
    for split in ("train", "val"):
        file = root / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        for entry in content["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        file.write_text(json.dumps(content))
    count = sum(len(json.loads(file.read_text())["annotations"]) for file in (root / "annotations").iterdir())
    said = convert(root, tmp_path / "poses", "yolo")
    assert said["lost"] == {"masks": count, "lines of the skeleton": 4}
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        content["categories"].append({"id": 2, "name": "ball"})
        file.write_text(json.dumps(content))
    labeled = sum(
        entry["num_keypoints"] > 0
        for file in (root / "annotations").iterdir()
        for entry in json.loads(file.read_text())["annotations"]
    )
    assert convert(root, tmp_path / "boxes", "yolo")["lost"] == {"keypoints of an object": labeled}
    assert "kpt_shape" not in yaml.safe_load((tmp_path / "boxes/data.yaml").read_text())
    assert opened(tmp_path / "boxes").has_masks


def test_objects_without_keypoints_have_zeros_in_yolo(tmp_path):
    root = corners.write(tmp_path / "corners", train=2, val=1)
    for file in root.rglob("*.json"):
        content = json.loads(file.read_text())
        for entry in content["annotations"]:
            del entry["keypoints"], entry["num_keypoints"]
        file.write_text(json.dumps(content))
    convert(root, tmp_path / "yolo", "yolo")
    lines = [line for file in (tmp_path / "yolo/labels").rglob("*.txt") for line in file.read_text().splitlines()]
    assert lines and all(line.split()[5:] == ["0"] * 12 for line in lines)
