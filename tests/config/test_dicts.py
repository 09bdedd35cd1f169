"""Tests configs from dicts of plain values, as stored in checkpoints."""

import copy

import pytest
import torch

from resdet import config
from resdet.backbones.config import ResNetConfig
from resdet.classification.data.config import ImageNetConfig
from resdet.errors import ConfigError


def circle() -> dict:
    settings: dict = {"task": "classification"}
    settings["model"] = {"backbone": settings}
    return settings


WRONG_DICTS = {
    "is a list": [],
    "contains itself": circle(),
    "optim.lr is a Tensor": {"task": "classification", "optim": {"lr": torch.zeros(1)}},
    "optim.lr is a complex": {"task": "classification", "optim": {"lr": 1j}},
    "optim has a key that is not valid text": {"task": "classification", "optim": {3: 1}},
    "the experiment has a key that is not valid text": {"task": "classification", "\ud800": 1},
    "optim.betas is": {"task": "classification", "optim": {"betas": [1]}},
    "task is null": {"task": None},
    "invalid in file names": {"task": "classification", "name": "a\0b"},
    "64-bit": {"task": "classification", "train": {"batch": 10**400}},
}


@pytest.mark.parametrize("words", WRONG_DICTS)
def test_invalid_dicts_are_rejected(words):
    with pytest.raises(ConfigError, match="the config inside best.pth") as caught:
        config.from_dict(WRONG_DICTS[words], "the config inside best.pth")
    assert words in str(caught.value)


def test_dicts_with_exponentially_many_references_are_rejected():
    entry: list = []
    for _ in range(35):
        entry = [entry, entry]
    with pytest.raises(ConfigError, match="nested too deeply"):
        config.from_dict({"task": "classification", "data": {"augment": {"albumentations": entry}}})


def test_overrides_do_not_modify_the_dict():
    settings = config.to_dict(config.load("shapes_resnet20", "model.backbone.norm=gn"))
    before = copy.deepcopy(settings)
    changed = config.from_dict(settings, overrides=("model.backbone=resnet18", "data=imagenet"))
    assert changed.model.backbone == ResNetConfig(name="resnet18") and changed.data == ImageNetConfig(name="imagenet")
    assert settings == before


def test_the_context_of_regions_is_limited_by_their_size():
    assert config.load("shapes_loc_rcnn_r18", "data.size=32", "model.context=15").model.context == 15
    for context in (16, 40):
        with pytest.raises(ConfigError, match=f"model.context is {context}: .*data.size, which is 32"):
            config.load("shapes_loc_rcnn_r18", "data.size=32", f"model.context={context}")


def test_errors_in_a_dict_name_its_source():
    with pytest.raises(ConfigError, match="the config inside best.pth: there is no key optim.warp"):
        config.from_dict({"task": "classification", "optim": {"warp": 9}}, "the config inside best.pth")
