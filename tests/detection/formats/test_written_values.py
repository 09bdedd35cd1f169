"""Boxes and areas that `resdet data convert` writes, and those that it counts as lost."""

import json

import numpy as np
import pytest
from detection.check.planted import rotated
from detection.formats.samples import coco, objects, opened, picture, write
from running import here


def convert(folder, to):
    """Writes the data set `source` in a folder as `to`; returns the counts."""
    done = here(folder, "data", "convert", "source", to, "--to", to, "--json", "said.json")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "said.json").read_text())


def with_image(root, content):
    """Writes `content` of one image, a.png, as both splits."""
    picture(root / "a.png", size=(60, 40))
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def test_boxes_beside_their_masks_are_counted_as_lost(tmp_path):
    """YOLO readers use the bounding box of the polygon; half a pixel is due to rounding."""
    ring = [[2, 2, 12, 2, 12, 12]]
    boxes = [[2, 2, 10, 10], [1.5, 2.5, 10, 10], [2, 2, 30, 10], [2, 0, 10, 12], [2, 2, 10, 10]]
    content = coco({1: "a.png"}, [(1, 1, *box) for box in boxes], ("cat",), (60, 40))
    for thing in content["annotations"][:4]:
        thing["segmentation"] = ring
    with_image(tmp_path / "source", content)
    assert convert(tmp_path, "yolo")["lost"] == {"boxes not around their mask": 4}


def test_areas_are_those_of_the_file_or_of_masks_or_boxes(tmp_path):
    content = coco({1: "a.png"}, [(1, 1, 2, 2, 10, 4)] * 3, ("cat",), (60, 40))
    first, second, third = content["annotations"]
    first |= {"area": 12.5, "segmentation": [[2, 2, 12, 2, 12, 6, 2, 6]]}
    second |= {"segmentation": {"size": [40, 60], "counts": [82, 3, 2315]}}
    del third["iscrowd"]
    with_image(tmp_path / "source", content)
    convert(tmp_path, "coco")
    written = json.loads((tmp_path / "coco/annotations/train.json").read_text())["annotations"]
    assert [(thing["area"], thing["iscrowd"]) for thing in written] == [(12.5, 0), (3, 0), (40, 0)]


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_boxes_are_clipped_to_their_images(to, tmp_path):
    """The boxes end at 65 × 40 and start at (-6, -5), of an image of 60 × 40 pixels."""
    content = coco({1: "a.png"}, [(1, 1, 50, 30, 15, 10), (1, 1, -6, -5, 20, 20), (1, 1, 2, 3, 20, 20)], size=(60, 40))
    with_image(tmp_path / "source", content)
    said = convert(tmp_path, to)
    assert said["lost"] == ({"classes without objects": 1} if to == "voc" else {})
    assert len(said["problems"]) == 2  # of two splits
    assert all("clipped 2 annotations with a box that exceeds" in sentence for sentence in said["problems"])
    source = opened(tmp_path / to, on_bad_annotation="error")
    assert source.problems == [] and objects(source).popitem()[1] == [
        ("cat", [50, 30, 60, 40]),
        ("cat", [0, 0, 14, 15]),
        ("cat", [2, 3, 22, 23]),
    ]
    if to == "coco":
        things = json.loads((tmp_path / "coco/annotations/train.json").read_text())["annotations"]
        assert [(thing["bbox"], thing["area"]) for thing in things] == [
            ([50, 30, 10, 10], 100),
            ([0, 0, 14, 15], 210),
            ([2, 3, 20, 20], 400),
        ]


def test_polygons_of_yolo_are_clipped_to_their_images(tmp_path):
    """Other readers leave out an image with a coordinate above 1."""
    content = coco({1: "a.png"}, [(1, 1, -6, 10, 72, 20)], size=(60, 40))
    content["annotations"][0]["segmentation"] = [[-6, 10, 66, 10, 66, 30, -6, 30], [61, 10, 66, 10, 66, 30]]
    with_image(tmp_path / "source", content)
    assert convert(tmp_path, "yolo")["lost"] == {}
    label, *numbers = (tmp_path / "yolo/labels/train/a.txt").read_text().split()
    corners = np.array(numbers, float).reshape(-1, 2)
    assert len(corners) == 4 and {tuple(corner) for corner in corners} == {(0, 0.25), (1, 0.25), (1, 0.75), (0, 0.75)}


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_missing_images_take_their_objects_with_them_and_equal_names_get_their_folder(to, tmp_path):
    content = coco({1: "x/a.png", 2: "y/a.png", 3: "gone.png"}, [(k, 1, k, 2, 10, 4) for k in (1, 2, 3)])
    write(tmp_path / "source", {"x/a.png": None, "y/a.png": None, "train.json": content, "val.json": content})
    said = convert(tmp_path, to)
    assert (said["images"]["train"], said["objects"]["train"], said["missing"]) == (2, 2, 2)
    found = objects(opened(tmp_path / to, on_bad_annotation="error"))
    names = {name.rpartition("/")[2]: boxes for name, boxes in found.items()}
    assert names == {"a.png": [("cat", [1, 2, 11, 6])], "y_a.png": [("cat", [2, 2, 12, 6])]}


@pytest.mark.parametrize("orientation", [3, 6])
def test_objects_of_upright_images_do_not_move(orientation, tmp_path):
    """Uses an image of 40 × 60 pixels that is stored with an EXIF rotation and annotated upright."""
    size = (60, 40) if orientation == 6 else (40, 60)
    stored = picture(tmp_path / "stored.jpg", size=size).read_bytes()
    content = coco({1: "a.jpg"}, [(1, 1, 2, 3, 10, 20)], size=(40, 60))
    files = {"a.jpg": rotated(stored, orientation), "train.json": content, "val.json": content}
    write(tmp_path / "source", files)
    convert(tmp_path, "yolo")
    assert objects(opened(tmp_path / "yolo")) == {"images/train/a.jpg": [("cat", [2, 3, 12, 23])]}
