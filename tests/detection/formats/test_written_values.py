"""Boxes and areas that `resdet data convert` writes, and those that it counts as lost."""

import json

from detection.formats.samples import coco, picture
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
