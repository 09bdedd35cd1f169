"""Tests `resdet data label`: images annotated with a detector's predictions, in each format."""

import json
from itertools import pairwise

import numpy as np
import pytest
from detection.formats.samples import opened, picture
from detection.heads import tiny
from pycocotools import mask as masks
from running import here

from resdet import config
from resdet.classification.build import build_classifier
from resdet.commands.label import content_of, images_below
from resdet.errors import DataError
from resdet.results.result import Result
from resdet.weights.save_weights import save

SCORE = "0"  # random weights have low scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder with a checkpoint, images at two depths, and a damaged image."""
    folder = tmp_path_factory.mktemp("label")
    save(tiny.make("fpn"), folder / "net.safetensors", layout="safetensors")
    for name in ("a.png", "sub/b.png"):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(folder / "photos" / name)
    (folder / "photos/damaged.png").write_bytes(b"no image")
    (folder / "photos/notes.txt").write_text("no image either")
    return folder


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_detections_become_annotations(folder, to, tmp_path):
    said = tmp_path / "said.json"
    words = ["photos", tmp_path / "out", "--weights", "net.safetensors", "--to", to, "--score", SCORE, "--json", said]
    done = here(folder, "data", "label", *words)
    assert done.returncode == 0, done.stderr
    assert "left out 1 image that cannot be read, the first: " in done.stdout
    assert ("voc cannot store masks: lost " in done.stdout) == (to == "voc")
    said = json.loads(said.read_text())
    train, val = (opened(tmp_path / "out", split) for split in ("train", "val"))  # a made split, of one image each
    assert len(train) + len(val) == said["images"] == 2 and {*train.classes} == {*val.classes} == {*tiny.CLASSES}
    assert len(train.objects(0).boxes) + len(val.objects(0).boxes) == said["objects"] > 0
    assert said["format"] == to and len(said["left_out"]) == 1


def test_coco_annotations_have_the_boxes_and_scores_of_the_detections(folder, tmp_path):
    words = ["--weights", "net.safetensors", "--score", SCORE, "--mode", "exact"]
    assert here(folder, "data", "label", "photos", tmp_path / "out", *words).returncode == 0
    content = json.loads((tmp_path / "out/annotations/train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    done = here(folder, "predict", *words, "photos/a.png", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    labeled = [entry for entry in content["annotations"] if entry["image_id"] == 1]
    assert [entry["score"] for entry in labeled] == [entry["score"] for entry in row["detections"]]
    for entry, detection in zip(labeled, row["detections"]):
        x, y, width, height = entry["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx(detection["box"], abs=1e-3)


def test_only_detections_of_at_least_the_score_become_annotations(folder, tmp_path):
    words = ["data", "label", "photos"]
    weights = ["--weights", "net.safetensors", "--score"]
    assert here(folder, *words, tmp_path / "all", *weights, SCORE).returncode == 0
    labeled = lambda name: json.loads((tmp_path / name / "annotations/train.json").read_text())["annotations"]
    scores = [entry["score"] for entry in labeled("all")]
    _, low, high = max((high - low, low, high) for low, high in pairwise(sorted(scores)))  # the widest gap
    middle = (low + high) / 2
    assert here(folder, *words, tmp_path / "some", *weights, str(middle)).returncode == 0
    assert [entry["score"] for entry in labeled("some")] == [score for score in scores if score >= middle]


def result(mask, points=None):
    rle = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    one = np.zeros(1, np.int64)
    fields = {} if points is None else {"keypoints": points, "keypoint_names": ["nose", "tail"], "skeleton": [(0, 1)]}
    rles = [{"size": rle["size"], "counts": rle["counts"].decode()}]
    box = np.array([[2, 2, 6, 6]], np.float32)
    return Result(box, np.ones(1, np.float32), one, ["disc"], one + 1, mask.shape, image="a.png", rles=rles, **fields)


def annotation(*given):
    content = content_of([result(*given)], tiny.make("fpn", False))
    (entry,) = content["annotations"]
    return content, entry


def test_a_mask_without_holes_becomes_polygons():
    mask = np.zeros((8, 10), bool)
    mask[2:6, 2:6] = True
    content, entry = annotation(mask)
    (ring,) = entry["segmentation"]
    assert {*zip(ring[0::2], ring[1::2])} == {(2, 2), (2, 6), (6, 2), (6, 6)}
    assert content["images"] == [{"id": 1, "file_name": "a.png", "width": 10, "height": 8}]
    mask[3, 3] = False
    _, entry = annotation(mask)
    assert (masks.decode(entry["segmentation"]) == mask).all()
    assert "segmentation" not in annotation(np.zeros((8, 10), bool))[1]


def test_keypoints_become_visible():
    content, entry = annotation(np.ones((8, 10), bool), np.array([[[2.5, 3.5, 0.9], [4.5, 5.5, 0.2]]], np.float32))
    assert entry["keypoints"] == [2, 3, 2, 4, 5, 2] and entry["num_keypoints"] == 2 and "keypoint_scores" not in entry
    assert content["categories"][0] == {"id": 1, "name": "disc", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}


def test_categories_have_the_ids_of_the_model():
    model = tiny.make("fpn", False)
    model.category_ids = [5, 1, 8]
    expected = [{"id": number, "name": name} for number, name in zip((5, 1, 8), tiny.CLASSES)]
    assert content_of([result(np.ones((8, 10), bool))], model)["categories"] == expected


def test_images_are_listed_at_any_depth(folder, tmp_path):
    names = [path.relative_to(folder / "photos").as_posix() for path in images_below(str(folder / "photos"))]
    assert names == ["a.png", "damaged.png", "sub/b.png"]
    for path, reason in ((folder / "net.safetensors", "is not a folder"), (tmp_path, "has no image")):
        with pytest.raises(DataError, match=reason):
            images_below(str(path))


def test_wrong_arguments_are_refused(folder, tmp_path):
    words = ["data", "label", "photos", "photos/out", "--weights", "net.safetensors"]
    assert "is inside photos" in here(folder, *words).stderr
    classifier = build_classifier(config.load("shapes_resnet20.yaml", "model.num_classes=2"), ["cat", "dog"])
    save(classifier, tmp_path / "classifier.safetensors", layout="safetensors")
    done = here(folder, *words[:3], tmp_path / "out", "--weights", tmp_path / "classifier.safetensors")
    assert "is a classifier: give a detector" in done.stderr
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "a.png").write_bytes(b"no image")
    done = here(folder, "data", "label", damaged, tmp_path / "out", "--weights", "net.safetensors")
    assert done.returncode == 2 and "has no readable image" in done.stderr and not (tmp_path / "out").exists()
