"""Experiments as YAML, and how two of them differ."""

from typing import Any

from resdet.config.experiment import Experiment, plain, to_dict
from resdet.config.yaml_reader import dump


def to_yaml(experiment: Experiment) -> str:
    """A config file of the whole experiment."""
    return dump(to_dict(experiment))


def differences(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The keys in which two experiments, as `to_dict` gives them, differ, with both values."""
    changed = {}
    for key in {**before, **after}:
        old, new = plain(before.get(key)), plain(after.get(key))
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= differences(old, new, f"{prefix}{key}.")
        elif old != new:
            changed[f"{prefix}{key}"] = (old, new)
    return changed
