"""Command-line overrides: `section.key=value`, with a YAML value."""

import os
import re
from dataclasses import fields
from functools import cache
from typing import Any

from resdet.config.experiment import experiments
from resdet.config.layers import Layer
from resdet.config.settings import NO_TEXT
from resdet.config.yaml_reader import MAX_DEPTH, parse
from resdet.errors import ConfigError


@cache
def sections() -> frozenset[str]:
    """Returns the section names of all tasks."""
    return frozenset(field.name for task in experiments for field in fields(experiments[task]))


def is_override(word: str) -> bool:
    """Whether a command-line word is an override, not a path: it starts with a section, and no such file exists.

    True for `optim.lr=0.1`; False for `runs/lr=0.1/best.pth`, and for `data=1.pth` if that file exists.
    """
    key, equals, _ = word.partition("=")
    return bool(equals) and re.split(r"[.\[]", key, maxsplit=1)[0].strip() in sections() and not os.path.exists(word)


def parse_override(text: str) -> tuple[str, Any]:
    """Parses the dotted key and the value of `optim.lr=0.2`, `schedule.milestones.0=30` or
    `data.augment.short=[256,480]`."""
    if not isinstance(text, str):
        raise ConfigError(f"The override {text!r} is not a string: give each as an argument, such as 'optim.lr=1'.")
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or NO_TEXT.search(key):
        raise ConfigError(f"{text!r} is not an override: write section.key=value, as in optim.lr=0.2.")
    try:
        return key.strip(), parse(value, f"override {text}")
    except ConfigError as error:
        raise ConfigError(f"{str(error).rstrip('.')}; quote the value if it is text.") from None


def override_layer(text: str) -> Layer:
    """Returns the layer of an override, as nested mappings; list indices become int keys."""
    key, value = parse_override(text)
    parts = [int(part) if re.fullmatch(r"-?[0-9]{1,9}", part) else part for part in split(key)]
    if len(parts) > MAX_DEPTH:
        raise ConfigError(f"{text!r} is not an override: its key has {len(parts)} parts; give at most {MAX_DEPTH}.")
    for part in reversed(parts):
        value = {part: value}
    return Layer(f"override {text}", value)


def split(key: str) -> list[str]:
    """Splits a key at dots; `milestones[0]` equals `milestones.0`."""
    return re.sub(r"\[(-?[0-9]+)\]", r".\1", key).split(".")
