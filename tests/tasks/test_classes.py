"""Tests which classes training and validation sets must share, and how often images are sampled."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tasks import runs

from resdet import config
from resdet.classification.training import ClassificationTraining, check_split_classes
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.compile_annotations import Problems, RawAnnotations, compile_annotations
from resdet.detection.training import DetectionTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError, DataError

NAMES = ["n01", "n02", "n03"]


def training(root, train, val):
    for split, names in (("train", train), ("val", val)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            cv2.imwrite(str(root / split / name / "1.jpg"), np.zeros((40, 40, 3), np.uint8))
    settings = [f"data.root={root}", "data.size=32", "data.short=36", "data.workers=0", "train.batch=2"]
    experiment = config.load("imagenet_r18.yaml", *settings, "model.backbone=cifar_resnet8", "model.num_classes=null")
    return ClassificationTraining(experiment, World(0, 1, torch.device("cpu")), Log(None))


def test_equal_class_folders_are_accepted(tmp_path):
    assert training(tmp_path, NAMES, NAMES).model.classes == NAMES


@pytest.mark.parametrize(
    "val, odd", [(["n01", "n03"], "n02"), ([*NAMES, "n04"], "n04"), (["n01", "n02", "n05"], "n03, n05")]
)
def test_unequal_class_folders_are_refused(tmp_path, val, odd):
    """Checks that unequal folders are refused, since labels are indices of the sorted folders."""
    with pytest.raises(
        DataError, match=f"has 3 classes and the validation set {len(val)}; only one of them has {odd}:"
    ):
        training(tmp_path, NAMES, val)


OTHER_CLASSES = {  # of the data that a model of NAMES is evaluated on
    "the same": (NAMES, ""),
    "one has another number": (["n02", "n04", "n05"], "Class 0 is n02 in the data and n01 in the model"),
    "other names": (["a", "b", "c"], "3 of 3 classes have other names in the data"),
}


@pytest.mark.parametrize("case", OTHER_CLASSES)
def test_weights_are_evaluated_on_classes_of_the_same_numbers(tmp_path, case):
    classes, sentence = OTHER_CLASSES[case]
    trained, task = training(tmp_path / "a", NAMES, NAMES), training(tmp_path / "b", classes, classes)
    torch.save({"model": trained.model.state_dict(), **trained.description()}, tmp_path / "best.pth")
    if sentence.startswith("Class 0"):
        with pytest.raises(ConfigError, match=sentence):
            task.load_strict(tmp_path / "best.pth")
    else:
        assert "".join(task.load_strict(tmp_path / "best.pth")).startswith(sentence)


SHARDS = {  # without a devkit, shards have class numbers only
    "the same": (["0", "1", "2"], ["0", "1", "2"], True),
    "val has none of the last class": (["0", "1", "2"], ["0", "1"], True),
    "val has more": (["0", "1"], ["0", "1", "2"], False),
    "val is of folders": (["0", "1", "2"], NAMES, True),
    "val lacks a folder": (["0", "1", "2"], NAMES[1:], False),
    "train is of folders": (NAMES, ["0", "1", "2"], True),
    "train lacks a folder": (NAMES[1:], ["0", "1", "2"], False),
}


@pytest.mark.parametrize("case", SHARDS)
def test_class_numbers_and_class_folders(case):
    train, val, fits = SHARDS[case]
    if fits:
        return check_split_classes(train, val)
    with pytest.raises(DataError, match="give both the same"):
        check_split_classes(train, val)


def other_annotations(root: Path, folder: Path, change) -> list[str]:
    """Copies the validation annotations of scenes, changes them, and returns the setting that selects them."""
    truth = json.loads((root / "annotations/val.json").read_text())
    change(truth)
    (folder / "other.json").write_text(json.dumps(truth))
    return [f"data.val={{images: val, annotations: {folder / 'other.json'}}}"]


def renumber(truth):
    """Reverses the categories and gives them other ids."""
    truth["categories"] = [{**each, "id": 50 - each["id"]} for each in reversed(truth["categories"])]
    for each in truth["annotations"]:
        each["category_id"] = 50 - each["category_id"]


def rename(truth):
    truth["categories"][0]["name"] = "hexagon"


@pytest.mark.usefixtures("narrow")
def test_validation_categories_of_other_ids_and_order_are_matched_by_name(root, tmp_path):
    """Compares the validation metrics and losses of two runs that differ in the ids and the order only."""
    other = other_annotations(root, tmp_path, renumber)
    same = runs.train(tmp_path / "same", *runs.of(root))
    done = runs.train(tmp_path / "other", *runs.of(root), *other)
    assert "classes are matched by name" not in same.stderr
    assert "validation: classes are matched by name" in done.stderr
    (expected,), (found,) = (runs.metrics(tmp_path / name, "val") for name in ("same", "other"))
    differing = {name for name, value in expected.items() if name != "seconds" and found[name] != pytest.approx(value)}
    assert not differing


def test_a_validation_class_that_the_training_set_lacks_is_refused(root, tmp_path):
    done = runs.here("train", *runs.of(root), *other_annotations(root, tmp_path, rename), "--out", tmp_path / "run")
    assert "The validation set has the class hexagon, and the training set has only " in runs.sentence(done)


@pytest.mark.parametrize("negatives, empty", [(0, 0), (0.25, 1)])
def test_negatives_under_class_aware_sampling(negatives, empty, tmp_path):
    """Compares the copies of four images, the last two without objects, with those for a share of negatives."""
    found = RawAnnotations([f"{i}.jpg" for i in range(4)], [(9, 9)] * 4, [0, 1], [[0, 0, 5, 5]] * 2, [0, 0], ["a", "b"])
    source = Annotations(compile_annotations(found, {1: "dog"}, Problems(tmp_path, "error"), "object"), tmp_path)
    experiment = config.load("ilsvrc_det_r101.yaml", f"data.negatives={negatives}")
    copies = DetectionTraining.copies(SimpleNamespace(experiment=experiment, source=source))
    np.testing.assert_allclose(copies, [2 - empty / 2] * 2 + [empty / 2] * 2)


def test_an_invalid_share_of_negatives_is_refused():
    assert config.load("ilsvrc_det_r101.yaml").data.negatives == 0
    with pytest.raises(ConfigError, match="data.negatives is 1.5"):
        config.load("ilsvrc_det_r101.yaml", "data.negatives=1.5")
