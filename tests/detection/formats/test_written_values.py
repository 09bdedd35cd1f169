"""Boxes and areas that `resdet data convert` writes, and those that it counts as lost."""

import json

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
    """Readers of YOLO take the box around the polygon; half a pixel is rounding."""
    ring = [[2, 2, 12, 2, 12, 12]]
    boxes = [[2, 2, 10, 10], [1.5, 2.5, 10, 10], [2, 2, 30, 10], [2, 0, 10, 12], [2, 2, 10, 10]]
    content = coco({1: "a.png"}, [(1, 1, *box) for box in boxes], ("cat",), (60, 40))
    for thing in content["annotations"][:4]:
        thing["segmentation"] = ring
    with_image(tmp_path / "source", content)
    assert convert(tmp_path, "yolo")["lost"] == {"boxes that are not those around their masks": 4}


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
def test_missing_images_take_their_objects_with_them_and_equal_names_get_their_folder(to, tmp_path):
    content = coco({1: "x/a.png", 2: "y/a.png", 3: "gone.png"}, [(k, 1, k, 2, 10, 4) for k in (1, 2, 3)])
    write(tmp_path / "source", {"x/a.png": None, "y/a.png": None, "train.json": content, "val.json": content})
    said = convert(tmp_path, to)
    assert (said["images"]["train"], said["objects"]["train"], said["missing"]) == (2, 2, 2)
    found = objects(opened(tmp_path / to, on_bad_annotation="error"))
    names = {name.rpartition("/")[2]: boxes for name, boxes in found.items()}
    assert names == {"a.png": [("cat", [1, 2, 11, 6])], "y_a.png": [("cat", [2, 2, 12, 6])]}


@pytest.mark.parametrize("orientation", [3, 6])
def test_objects_of_upright_images_stay_where_they_are(orientation, tmp_path):
    """An image of 40 × 60 pixels, stored as EXIF tells, which is annotated upright."""
    size = (60, 40) if orientation == 6 else (40, 60)
    stored = picture(tmp_path / "stored.jpg", size=size).read_bytes()
    content = coco({1: "a.jpg"}, [(1, 1, 2, 3, 10, 20)], size=(40, 60))
    files = {"a.jpg": rotated(stored, orientation), "train.json": content, "val.json": content}
    write(tmp_path / "source", files)
    convert(tmp_path, "yolo")
    assert objects(opened(tmp_path / "yolo")) == {"images/train/a.jpg": [("cat", [2, 3, 12, 23])]}
