"""Tests experiments in checkpoints of earlier versions with renamed keys; experiments.json has one of each kind."""

import json
import re
from pathlib import Path

import pytest

from resdet import config

EXPERIMENTS = json.loads(Path(__file__).with_name("experiments.json").read_text(encoding="utf-8"))
PRESENT = {  # old -> current
    "model.rpn.batch": "model.rpn.batch_per_image",
    "model.rpn.positives": "model.rpn.positive_fraction",
    "model.box.batch": "model.box.batch_per_image",
    "model.box.positives": "model.box.positive_fraction",
    "model.box.canonical": "model.box.canonical_size",
    "model.positives": "model.positive_fraction",
    "model.input.short": "model.input.min_size",
    "model.input.long": "model.input.max_size",
    "data.augment.pca_colour": "data.augment.pca_color",
}
OF_DETECTION = {
    "data.augment.short": "data.augment.min_size",
    "data.augment.short_sampling": "data.augment.min_size_sampling",
    "data.augment.long": "data.augment.max_size",
}


def flat(settings: dict, prefix: str = "") -> dict:
    """Returns the settings by dotted key."""
    found = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def present(settings: dict) -> dict:
    """Returns the expected current settings by dotted key."""
    names = PRESENT | (OF_DETECTION if settings["task"] == "detection" else {})
    today = {names.get(key, key): value for key, value in flat(settings).items()}
    today = {re.sub(r"^model\.fpn\b", "model.neck", key): value for key, value in today.items()}
    return {key: "center" if value == "centre" else value for key, value in today.items()}


def keys_of_then(settings: dict, before: dict) -> dict:
    """Omits the keys added later."""
    return {key: value for key, value in settings.items() if key in before}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_old_experiments_keep_their_values(name):
    experiment = config.from_dict(EXPERIMENTS[name], f"the config inside {name}.pth")
    before = present(EXPERIMENTS[name])
    assert keys_of_then(flat(config.to_dict(experiment)), before) == before


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_old_experiments_keep_their_types(name):
    """Checks that an integer such as 90 in a file becomes a float in a float field."""

    def types(value):
        return [types(entry) for entry in value] if isinstance(value, list) else type(value)

    today = keys_of_then(flat(config.to_dict(config.from_dict(EXPERIMENTS[name]))), present(EXPERIMENTS[name]))
    assert {key: types(value) for key, value in today.items()} == {
        key: types(value) for key, value in present(EXPERIMENTS[name]).items()
    }


def test_old_keys_in_overrides_and_files(tmp_path):
    (tmp_path / "old.yaml").write_text(
        "task: detection\ndata: {name: coco, augment: {short: [600], long: 1000}}\nmodel: {rpn: {batch: 32}}\n"
    )
    experiment = config.load(tmp_path / "old.yaml", "model.box.positives=0.5", "model.input.short=500")
    augment, model = experiment.data.augment, experiment.model
    assert (augment.min_size, augment.max_size, model.rpn.batch_per_image) == ([600], 1000, 32)
    assert (model.box.positive_fraction, model.input.min_size) == (0.5, 500)


def test_keys_renamed_in_other_tasks_are_unchanged():
    experiment = config.load("imagenet_r50.yaml", "data.augment.short=[300,400]", "eval.views=centre")
    assert experiment.data.augment.short == (300, 400) and experiment.eval.views == "center"


def test_the_current_key_takes_precedence_over_the_old_one():
    experiment = config.from_dict({"task": "detection", "model": {"input": {"short": 100, "min_size": 200}}})
    assert experiment.model.input.min_size == 200
