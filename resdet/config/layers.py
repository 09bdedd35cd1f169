"""Merges layers of settings into the settings of an experiment.

A layer holds the settings of one file, dict or override. Mappings are merged key by key; other values are replaced.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from resdet.config.experiment import AUTO, experiments, plain
from resdet.config.schema import VARIANTS, Schema, default_families
from resdet.config.settings import get, holder
from resdet.errors import ConfigError, hint, spelled

MISSING = object()


@dataclass
class Layer:
    """One source of settings, with its name for errors."""

    origin: str
    settings: dict[str, Any]


def origin_of(key: str, layers: list[Layer]) -> str | None:
    """Returns the origin of the last layer that sets a key or replaces a section that contains it, or None."""
    for layer in reversed(layers):
        value: Any = layer.settings
        for part in key.split("."):
            if isinstance(value, dict):
                value = {str(name): entry for name, entry in value.items()}.get(part, MISSING)
        if value is not MISSING:
            return layer.origin
    return None


def schema_of(layers: list[Layer], origin: str) -> Schema:
    """Returns the schema of the last `task`, and of the last `name` of each section in VARIANTS."""
    tasks = [layer for layer in layers if "task" in layer.settings]
    if not tasks:
        raise ConfigError(f"{origin} names no task: write `task:` and one of {', '.join(experiments)}.")
    task = tasks[-1].settings["task"]
    if not isinstance(task, str) or task not in experiments:
        otherwise = f"write `task:` and one of {', '.join(experiments)}."
        raise ConfigError(f"{tasks[-1].origin}: task is {spelled(task)}: {hint(task, experiments, otherwise)}")
    chosen = dict(default_families(experiments[task]))
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
    """Expands `backbone: resnet50` to `backbone: {name: resnet50}`, in place."""
    for section in VARIANTS:
        parent, last = holder(settings, section)
        if isinstance(parent, dict) and isinstance(parent.get(last), str):
            parent[last] = {"name": parent[last]}


def drop_other_families(layers: list[Layer], schema: Schema) -> None:
    """Drops, in place, options of a section that were set for another family than that of its final name."""
    for section, chosen in schema.chosen.items():
        default, family = default_families(schema.task)[section], None
        for position, layer in enumerate(layers):
            if name_in(layer, section) is None and family is None and default is not chosen:
                drop_keys(layer, section, names_of(default) - names_of(chosen))
            family = family if name_in(layer, section) is None else family_of(layer, section)
            if family not in (None, chosen):
                for earlier in layers[: position + 1]:
                    parent, last = holder(earlier.settings, section)
                    if isinstance(parent, dict):
                        parent.pop(last, None)


def drop_keys(layer: Layer, section: str, keys: set[str]) -> None:
    """Drops, in place, options of the default family if a later layer selects another family by name."""
    options = get(layer.settings, section)
    for key in keys & set(options if isinstance(options, dict) else ()):
        del options[key]


def names_of(family: type) -> set[str]:
    return {field.name for field in fields(family)}


def merge(before: Any, change: Any, schema: Schema, path: tuple[str, ...] = ()) -> Any:
    """Returns the settings at `path` after a change; first replaces a section that is null or `auto` by its
    defaults."""
    if not isinstance(change, dict):
        return change
    if any(isinstance(key, int) for key in change):
        return merge_entry(before, change, schema, path)
    section = schema.section(path)
    if section and before in (None, AUTO):
        before = plain(asdict(section()))
    if not isinstance(before, dict):
        return before if section else change
    return before | {key: merge(before.get(key), value, schema, (*path, key)) for key, value in change.items()}


def merge_entry(before: Any, change: dict, schema: Schema, path: tuple[str, ...]) -> list:
    """Returns a list after an override of one entry."""
    ((index, value),) = change.items()
    key = ".".join(path) or "an experiment"
    if not isinstance(before, list):
        raise ConfigError(f"{key} is not a list and has no entry {index}: give one of its keys, or the whole value.")
    if not -len(before) <= index < len(before):
        raise ConfigError(f"there is no {key}.{index}: {key} has {len(before)} entries; write {key}=[…].")
    entries = list(before)
    entries[index] = merge(before[index], value, schema, (*path, str(index)))
    return entries
