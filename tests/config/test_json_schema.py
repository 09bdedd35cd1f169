"""Tests that the JSON schema accepts valid configs and rejects invalid ones."""

import jsonschema
import pytest

from resdet import config
from resdet.config.json_schema import json_schema
from resdet.config.yaml_reader import parse

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_schema_is_valid():
    VALIDATOR.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("name", config.shipped())
def test_shipped_configs_are_valid(name):
    text = config.find(name).read_text(encoding="utf-8")
    assert VALIDATOR.is_valid(parse(text, name)) and VALIDATOR.is_valid(config.to_dict(config.load(name)))


@pytest.mark.parametrize(
    "settings",
    [
        {"_base_": "coco.yaml"},
        {"_base_": ["coco.yaml", "schedule_3x.yaml"], "optim": {"lr": 1}},
        {"model": {"backbone": "resnet18", "mask": None}},
        {"model": {"backbone": {"name": "cifar_resnet26", "zero_init": True}}},
        {"model": {"backbone": {"name": "timm/convnext_atto", "pretrained": True}}},
        {"data": "folder"},
        {"task": "detection", "data": {"name": "voc", "train_sets": ["2007_train"]}},
    ],
)
def test_partial_configs_are_valid(settings):
    assert VALIDATOR.is_valid(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"_base_": 3},
        {"task": "segmentation"},
        {"optm": {}},
        {"optim": {"lrr": 1}},
        {"optim": {"lr": "fast"}},
        {"train": {"batch": 1.5}},
        {"train": {"precision": "fp8"}},
        {"model": {"backbone": "resnet5O"}},
        {"model": {"backbone": {"name": "vgg16", "shortcut": "A"}}},
        {"data": {"name": "coco", "size": 3}},
        {"data": {"name": "mine"}},
        {"task": "classification", "alternating": {}},
    ],
)
def test_mistakes_are_invalid(settings):
    assert not VALIDATOR.is_valid(settings)
