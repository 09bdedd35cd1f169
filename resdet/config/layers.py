"""Layers of settings, merged into those of one experiment.

A layer is what one file, dict or override says. Mappings merge key by key; anything else is replaced.
"""

import difflib
from dataclasses import asdict, dataclass
from typing import Any

from resdet.config.experiment import experiments, plain
from resdet.config.schema import VARIANTS, Schema, default_families, get, holder
from resdet.errors import ConfigError

MISSING = object()


@dataclass
class Layer:
    """One source of settings, and its name in an error."""

    origin: str
    settings: dict[str, Any]


def origin_of(key: str, layers: list[Layer]) -> str | None:
    """The last layer that sets a key, or a section around it as a whole."""
    for layer in reversed(layers):
        value: Any = layer.settings
        for part in key.split("."):
            if isinstance(value, dict):
                value = {str(name): entry for name, entry in value.items()}.get(part, MISSING)
        if value is not MISSING:
            return layer.origin
    return None


def schema_of(layers: list[Layer], origin: str) -> Schema:
    """The task that the last layer names, and the family of each section's last name."""
    tasks = [layer for layer in layers if "task" in layer.settings]
    if not tasks:
        raise ConfigError(f"{origin} names no task: write `task:` and one of {', '.join(experiments)}.")
    task = tasks[-1].settings["task"]
    if not isinstance(task, str) or task not in experiments:
        near = difflib.get_close_matches(str(task), experiments, n=1)
        hint = f"did you mean {near[0]}?" if near else f"write `task:` and one of {', '.join(experiments)}."
        raise ConfigError(f"{tasks[-1].origin}: task is {task!r}: {hint}")
    chosen = default_families(experiments[task])
    for section in chosen:
        named = [layer for layer in layers if name_in(layer, section) is not None]
        if named:
            chosen[section] = family_of(named[-1], section)
    return Schema(experiments[task], chosen)


def family_of(layer: Layer, section: str) -> type:
    try:
        return VARIANTS[section](str(name_in(layer, section)))
    except ConfigError as error:
        raise ConfigError(f"{layer.origin}: {error}") from None


def name_in(layer: Layer, section: str) -> Any:
    return get(layer.settings, f"{section}.name")


def expand_names(settings: dict[str, Any]) -> None:
    """`backbone: resnet50` is short for `backbone: {name: resnet50}`."""
    for section in VARIANTS:
        parent, last = holder(settings, section)
        if isinstance(parent, dict) and isinstance(parent.get(last), str):
            parent[last] = {"name": parent[last]}


def forget_other_families(layers: list[Layer], schema: Schema) -> None:
    """The options of a section belong to its name: naming another family starts from that one's defaults."""
    for section, chosen in schema.chosen.items():
        family = None
        for position, layer in enumerate(layers):
            family = family if name_in(layer, section) is None else family_of(layer, section)
            if family not in (None, chosen):
                for earlier in layers[: position + 1]:
                    parent, last = holder(earlier.settings, section)
                    if isinstance(parent, dict):
                        parent.pop(last, None)


def merge(before: Any, change: Any, schema: Schema, path: tuple[str, ...] = ()) -> Any:
    """The settings at `path` after a change; a section that is null is filled with its defaults first."""
    if not isinstance(change, dict):
        return change
    if any(isinstance(key, int) for key in change):
        return merge_entry(before, change, schema, path)
    section = schema.section(path)
    if section and before is None:
        before = plain(asdict(section()))
    if not isinstance(before, dict):
        return before if section else change
    return before | {key: merge(before.get(key), value, schema, (*path, key)) for key, value in change.items()}


def merge_entry(before: Any, change: dict, schema: Schema, path: tuple[str, ...]) -> list:
    """A list after an override of one of its entries."""
    ((index, value),) = change.items()
    key = ".".join(path) or "an experiment"
    if not isinstance(before, list):
        raise ConfigError(f"{key} is no list and has no entry {index}: name a key of it, or give the whole value.")
    if not -len(before) <= index < len(before):
        raise ConfigError(f"there is no {key}.{index}: {key} has {len(before)} entries; write {key}=[…].")
    entries = list(before)
    entries[index] = merge(before[index], value, schema, (*path, str(index)))
    return entries
