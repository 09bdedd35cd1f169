"""Tests keys with the value `auto`, which are chosen from the training data."""

import pytest

from resdet import config
from resdet.config.json_schema import json_schema
from resdet.errors import ConfigError

KEYS = ("train.length=auto", "data.sampling=auto", "model.rpn.anchors=auto")


def test_auto_keys_have_defaults_and_are_written_as_auto():
    experiment = config.load("coco.yaml", *KEYS)
    assert set(experiment.auto) == {"train.length", "data.sampling", "model.rpn.anchors"}
    assert experiment.data.sampling == "uniform" and experiment.model.rpn.anchors.ratios == [0.5, 1.0, 2.0]
    settings = config.to_dict(experiment)
    assert [config.get(settings, key) for key in experiment.auto] == ["auto"] * 3 and "auto" not in settings
    assert config.from_dict(settings) == experiment


def test_a_later_value_replaces_auto():
    experiment = config.load("coco.yaml", *KEYS, "train.length=500", "model.rpn.anchors.ratios=[1]")
    assert experiment.auto == ["data.sampling"] and experiment.train.length == 500
    assert experiment.model.rpn.anchors.ratios == [1] and experiment.model.rpn.anchors.style == "exact"


def test_the_default_of_min_size_respects_a_given_max_size():
    experiment = config.load("coco.yaml", "model.input.min_size=auto", "model.input.max_size=640")
    assert experiment.model.input.min_size == 640
    experiment = config.load("coco.yaml", "data.augment.min_size=auto", "data.augment.max_size=640")
    assert experiment.data.augment.min_size == [640]


def test_the_default_of_max_size_respects_a_given_min_size():
    sizes = "model.input.max_size=auto", "data.augment.max_size=auto"
    for given, expected in ((600, 1333), (1536, 1536)):
        words = f"model.input.min_size={given}", f"data.augment.min_size=[320,{given}]"
        experiment = config.load("coco.yaml", *sizes, *words)
        assert (experiment.model.input.max_size, experiment.data.augment.max_size) == (expected, expected)
    experiment = config.load("custom.yaml")
    assert (experiment.model.input.min_size, experiment.model.input.max_size) == (800, 1333)
    with pytest.raises(ConfigError, match="data.augment.min_size"):
        config.load("coco.yaml", *sizes, "data.augment.min_size=[small]")


def test_chosen_values_replace_auto_individually():
    experiment = config.with_values(config.load("coco.yaml", *KEYS), {"train.length": 70}, "a test")
    assert experiment.train.length == 70 and "train.length" not in experiment.auto
    again = config.with_choices(config.load("coco.yaml", *KEYS), experiment)
    assert again.train.length == 70 and again.auto == experiment.auto


@pytest.mark.parametrize(
    "words, message",
    [
        (("coco.yaml", "train.batch=auto"), "train.batch is auto: give a whole number"),
        (("imagenet_r18.yaml", "train.length=auto"), "train.length is auto: give a number"),
        (("coco.yaml", "auto=[train.batch]"), "auto is train.batch: list keys of model.freeze_stages"),
        (("coco.yaml", "auto=3"), "auto is 3: give a list"),
        (("coco_r101_alternating.yaml", "train.length=auto"), "alternating is set and train.length is auto"),
    ],
)
def test_auto_is_rejected_for_other_keys(words, message):
    with pytest.raises(ConfigError) as refused:
        config.load(*words)
    assert message in str(refused.value)


def test_the_json_schema_allows_auto():
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    settings = config.to_dict(config.load("custom.yaml"))
    assert settings["train"]["length"] == settings["model"]["rpn"]["anchors"] == "auto"
    assert validator.is_valid(settings)
    assert not validator.is_valid(settings | {"optim": {"lr": "auto"}})
