"""Tests the configs shipped with the package."""

from pathlib import Path

import pytest
import torch

import resdet
from resdet import config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_configs_are_shipped():
    assert CONFIGS and {path.stem for path in CONFIGS} <= set(config.shipped())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_builds_and_documents_its_command(path):
    experiment = config.load(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    commands = [line for line in header if line.startswith("#   command")]
    assert commands and path.name in commands[0] and path.read_text(encoding="utf-8").startswith("#")
    if experiment.model.num_classes is None:
        return
    with torch.device("meta"):
        model = resdet.build(experiment)
    if experiment.task == "detection":
        assert model.roi_heads.stages[0].predictor.scores.out_features == experiment.model.num_classes + 1
    elif experiment.task == "localization":
        assert len(model.rpn.scores.weight) == experiment.model.num_classes
    else:
        assert model.backbone.fc.out_features == experiment.model.num_classes
