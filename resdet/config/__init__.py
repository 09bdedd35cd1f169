"""From YAML files with `_base_` and from `key=value` overrides to an experiment (resdet/experiments.py).

    experiment = resdet.config.load("imagenet_r50.yaml", "data.root=datasets/ILSVRC2012", "optim.lr=0.2")

A wrong key, type or value is a ConfigError of one sentence that names the file or the override that sets it.
"""

from typing import Any

from resdet.config.files import find, shipped
from resdet.config.loading import from_dict, load
from resdet.config.overrides import is_override, parse_override
from resdet.config.schema import get
from resdet.config.yaml_reader import dump
from resdet.experiments import Experiment, plain, to_dict

__all__ = [
    "differences",
    "find",
    "from_dict",
    "get",
    "is_override",
    "load",
    "parse_override",
    "plain",
    "shipped",
    "to_dict",
    "to_yaml",
]


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
