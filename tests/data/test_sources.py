"""Checks that data sets without images, classes or objects are refused when they are opened."""

import json

import pytest

from resdet.detection.data.config import CocoConfig, SplitConfig
from resdet.detection.data.sources import open_scenes
from resdet.errors import DataError

IMAGE = {"id": 1, "file_name": "1.png", "width": 40, "height": 30}
OBJECT = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 9, 9]}
CLASS = {"id": 1, "name": "a"}


def opened(root, split, images, annotations, categories):
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "gt.json").write_text(json.dumps(content))
    files = SplitConfig("images", "gt.json")
    return open_scenes(CocoConfig("coco", str(root), train=files, val=files), split)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (([], [], [CLASS]), "gt.json has no images: check data"),
        (([IMAGE], [], []), "gt.json has no classes: check data"),
        (([{"id": 1, "file_name": "1.png"}], [OBJECT], [CLASS]), r"no images \(.*nor a readable file: 1\): check data"),
    ],
)
def test_empty_data_sets_are_refused(tmp_path, split, content, what):
    with pytest.raises(DataError, match=f"{what}.{split}"):
        opened(tmp_path, split, *content)


@pytest.mark.parametrize("crowd", [None, 1])
def test_validation_needs_objects_and_training_does_not(tmp_path, crowd):
    objects = [OBJECT | {"iscrowd": crowd}] if crowd else []
    assert len(opened(tmp_path, "train", [IMAGE], objects, [CLASS])) == 1
    with pytest.raises(DataError, match="no objects to evaluate detections with: check data.val"):
        opened(tmp_path, "val", [IMAGE], objects, [CLASS])
