"""Compares `FileScenes`, which reads entries of a COCO file one by one, with scenes of the file's whole content."""

import json
import tracemalloc

import pytest
from detection.formats.samples import coco, picture, write

from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.registry import recognize
from resdet.detection.formats.scenes import FileScenes, of_content, scenes_of
from resdet.detection.formats.writer import gather
from resdet.files import json_columns

NAMES = {7: "a.jpg", 3: "b.jpg", 5: "c.jpg", 4: "d.jpg"}
BOXES = [
    (5, 2, 1, 2, 30, 20),
    (3, 1, 0, 0, 9, 9),
    (9, 1, 0, 0, 9, 9),
    (5, 1, 1, 1, 0, 5),
    (7, 2, 3, 3, 4, 4),
    (5, 1, 5, 5, 9, 9),
]


@pytest.fixture
def data(tmp_path) -> DataSet:
    """Writes a COCO file with an object without image, one without area, an image without size and a missing image."""
    train = coco(NAMES, BOXES) | {"info": {"about": "é"}}
    del train["images"][1]["width"], train["images"][3]["height"]
    train["annotations"][0]["segmentation"] = [[1, 2, 30, 2, 30, 20]]
    files = {f"train/{name}": None for name in ("a.jpg", "b.jpg", "c.jpg")} | {"valid/e.jpg": None}
    annotations = {"train/a.json": train, "valid/b.json": coco({1: "e.jpg"}, [(1, 1, 0, 0, 5, 5)])}
    return DataSet(recognize(write(tmp_path, files | annotations)))


def text(scenes, names) -> dict:
    return json.loads("".join(scenes.texts(names)))


def test_scenes_of_a_file_equal_those_of_its_content(data):
    contents = gather(data)
    assert data.layout.as_is and list(scenes_of(data)) == list(contents) == ["train", "val"]
    for split, opened in scenes_of(data).items():
        found, expected = opened(), of_content(contents[split])
        assert isinstance(found, FileScenes) and len(found) == len(expected) == {"train": 3, "val": 1}[split]
        assert found.names == expected.names == {1: "cat", 2: "dog"}
        for i in range(len(found)):
            assert found.image(i) == expected.image(i) and found.objects(i) == expected.objects(i)
        every = {i: found.image(i)["file_name"] for i in range(len(found))}
        assert text(found, every) == text(expected, every) == contents[split]


def test_images_without_a_name_are_left_out_with_their_objects(data):
    scenes = scenes_of(data)["train"]()
    content = text(scenes, {0: "first", 2: "last"})
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [(7, "first"), (5, "last")]
    assert [(entry["image_id"], entry["bbox"]) for entry in content["annotations"]] == [
        (5, [1, 2, 30, 20]),
        (7, [3, 3, 4, 4]),
        (5, [5, 5, 9, 9]),
    ]
    assert text(scenes, {}) == content | {"images": [], "annotations": []}


def test_memory_is_less_than_twice_the_file_size(tmp_path, monkeypatch):
    monkeypatch.setattr(json_columns, "CHUNK", 2**14)
    content = coco({i: "a.jpg" for i in range(1, 101)}, [(i % 100 + 1, 1, 1, 1, 20, 20) for i in range(3000)])
    for entry in content["annotations"]:
        entry["segmentation"] = [[1.25, 1.5, 20.75, 1.25, 20.5, 20.75, 9.25, 15.5, 3.75, 11.5]]
    picture(tmp_path / "a.jpg")
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    del content
    FileScenes(file, tmp_path)  # writes the cached index
    tracemalloc.start()
    scenes = FileScenes(file, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scenes) == 100 and peak < 2 * file.stat().st_size
