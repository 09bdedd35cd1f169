"""Tests `resdet evaluate --split`, which selects the split to evaluate a detector on."""

import json
import shutil

import pytest
import torch
from tasks import runs

from resdet import config
from resdet.detection.build import build_detector
from resdet.detection.evaluation.command import evaluate
from resdet.errors import ConfigError, DataError
from resdet.tasks import EvaluateOptions

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Scenes whose test split is the first image of their validation split."""
    root = runs.scenes(tmp_path_factory.mktemp("data") / "scenes")
    content = json.loads((root / "annotations/val.json").read_text())
    first = content["images"][0]
    content["images"] = [first]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] == first["id"]]
    (root / "annotations/test.json").write_text(json.dumps(content))
    (root / "test").mkdir()
    shutil.copy(root / "val" / first["file_name"], root / "test")
    return root


def evaluated(words: list[str], out, **options) -> tuple[dict, list[dict]]:
    """The metrics and the detections of an untrained detector."""
    experiment = config.load(*words[1:], "model.box.score=0")
    source = experiment.scenes.open("train")
    torch.manual_seed(0)
    model = build_detector(experiment, source.classes, source.category_ids).eval()
    metrics = evaluate([model], experiment, EvaluateOptions(save=str(out), **options))
    return metrics, json.loads(out.read_text())


def test_the_test_split_of_a_recognized_folder(root, tmp_path):
    words = [*runs.CONFIG, "data.name=auto", f"data.root={root}"]
    metrics, detections = evaluated(words, tmp_path / "test.json", split="test")
    assert len({each["image_id"] for each in detections}) == 1
    same = ["data.val={images: test, annotations: annotations/test.json}"]
    expected, _ = evaluated([*runs.of(root), *same], tmp_path / "same.json")
    assert metrics == expected
    _, detections = evaluated(words, tmp_path / "val.json")
    assert len({each["image_id"] for each in detections}) == runs.VAL
    _, detections = evaluated(words, tmp_path / "train.json", split="train")
    assert len({each["image_id"] for each in detections}) == runs.TRAIN


def test_a_split_that_the_data_lack(root, tmp_path):
    with pytest.raises(ConfigError, match="has no split test: --split takes train, val."):
        evaluated(runs.of(root), tmp_path / "a.json", split="test")
    with pytest.raises(ConfigError, match="has no split test: --split takes train, val."):  # with the paths of files
        evaluated([*runs.of(root), "data.name=auto"], tmp_path / "a.json", split="test")


def test_a_test_split_without_objects_is_refused_and_a_training_split_is_not(root, tmp_path):
    shutil.copytree(root, tmp_path / "scenes")
    for split in ("train", "test"):
        file = tmp_path / "scenes/annotations" / f"{split}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    words = [*runs.CONFIG, "data.name=auto", f"data.root={tmp_path / 'scenes'}"]
    with pytest.raises(DataError, match="test.json has no objects to evaluate detections with: check data.root"):
        evaluated(words, tmp_path / "a.json", split="test")
    assert evaluated(words, tmp_path / "b.json", split="train")[0]["bbox"]["AP"] is None
