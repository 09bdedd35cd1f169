"""Experiments of checkpoints written when OmegaConf read the configs; experiments.json holds one of each kind."""

import json
from pathlib import Path

import pytest

from resdet import config

EXPERIMENTS = json.loads(Path(__file__).with_name("experiments.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_they_are_read_as_they_were(name):
    experiment = config.from_dict(EXPERIMENTS[name], f"the config inside {name}.pth")
    assert config.differences(EXPERIMENTS[name], config.to_dict(experiment)) == {}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_types_are_the_same(name):
    """Numbers of float fields are floats, though a file writes 90."""

    def types(value):
        if isinstance(value, dict):
            return {key: types(entry) for key, entry in value.items()}
        return [types(entry) for entry in value] if isinstance(value, list) else type(value)

    experiment = config.from_dict(EXPERIMENTS[name])
    assert types(config.to_dict(experiment)) == types(EXPERIMENTS[name])
