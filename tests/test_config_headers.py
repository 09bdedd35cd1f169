"""Tests that the commands in the headers of the shipped configs parse and name the pretrained weights they need."""

import re
import shlex

import pytest

from resdet import cli, config

NAMES = config.shipped()


def commands(name: str) -> list[list[str]]:
    """Returns the words after `resdet` of each command in the header; a command may span several lines."""
    lines = config.find(name).read_text(encoding="utf-8").splitlines()
    header = [line[1:] for line in lines if line.startswith("#")]
    start = next(number for number, line in enumerate(header) if line.startswith("   command"))
    end = next(number for number, line in enumerate(header) if line.startswith("   expected"))
    text = " ".join(header[start:end]).replace("   command", "").replace("…", "")
    text = re.sub(r"python tools/train_\w+\.py|torchrun [-\w ]+ -m resdet\.cli train", "resdet train", text)
    parts = re.split(r"\bresdet (?=[a-z]+ )", text)[1:]
    return [shlex.split(re.split(r"&&|\(| and | or, ", part)[0]) for part in parts]


@pytest.mark.parametrize("name", NAMES)
def test_header_commands_parse(name):
    found = commands(name)
    assert found
    for words in found:
        parsed = cli.parse(words)
        if getattr(parsed, "config", None):
            config.load(parsed.config, *parsed.overrides)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_layers_have_pretrained_weights(name):
    """Checks that a config with frozen norms or stages, or its command, names pretrained weights."""
    for words in commands(name):
        parsed = cli.parse(words)
        if words[0] != "train":
            continue
        model = config.load(parsed.config, *parsed.overrides).model
        if getattr(model.backbone, "norm", None) == "frozen" or model.freeze_stages:
            assert parsed.init or model.pretrained
