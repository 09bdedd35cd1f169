"""Writes experiments as YAML and compares two of them."""

from typing import Any

from resdet.config.experiment import Experiment, plain, to_dict
from resdet.config.yaml_reader import dump


def to_yaml(experiment: Experiment) -> str:
    """Returns a config file with all settings of the experiment."""
    return dump(to_dict(experiment))


def differences(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Returns {dotted key: (old, new)} for keys that differ between two experiments, in the form of `to_dict`."""
    changed: dict[str, tuple[Any, Any]] = {}
    for key in {**before, **after}:
        old, new = plain(before.get(key)), plain(after.get(key))
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= differences(old, new, f"{prefix}{key}.")
        elif old != new:
            changed[f"{prefix}{key}"] = (old, new)
    return changed
