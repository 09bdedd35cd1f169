"""Builds an experiment from files, dicts and overrides."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from resdet import extension
from resdet.config.experiment import AUTO, Experiment, to_dict
from resdet.config.files import find, read_layers
from resdet.config.layers import Layer, drop_other_families, expand_names, merge, origin_of, schema_of
from resdet.config.overrides import override_layer
from resdet.config.renames import current_settings
from resdet.config.schema import Schema
from resdet.config.settings import copy, get, holder
from resdet.config.validation import validate
from resdet.errors import ConfigError


def load(config: str | Path, *overrides: str) -> Experiment:
    """Loads an experiment from a YAML file, a path or a name in configs/, with `section.key=value` overrides."""
    path = find(config)
    layers = [Layer(str(path), copy({"name": path.stem}, str(path))), *read_layers(path)]
    changes = [override_layer(text) for text in overrides]
    for layer in (*layers, *changes):
        extension.import_modules(modules_of(layer), layer.origin)
    return compose(layers, changes)


def from_dict(settings: dict[str, Any], origin: str = "this dict", overrides: tuple[str, ...] = ()) -> Experiment:
    """Builds an experiment from a dict in the form of `to_dict` and of checkpoints."""
    if not isinstance(settings, dict):
        raise ConfigError(f"{origin} is a {type(settings).__name__}: give a mapping of sections (model, data, …).")
    layer = Layer(origin, copy(settings, origin))
    extension.require_modules(modules_of(layer), origin)
    return compose([layer], [override_layer(text) for text in overrides])


def with_values(experiment: Experiment, values: Mapping[str, Any], origin: str) -> Experiment:
    """Returns the experiment with changed values at dotted keys; `origin` names their source in errors."""
    settings = to_dict(experiment)
    for key, value in values.items():
        parent, last = holder(settings, key)
        parent[last] = value
    return from_dict(settings, origin)


def with_choices(experiment: Experiment, before: Experiment) -> Experiment:
    """Returns the experiment with the values of `before` for all keys that are `auto`."""
    settings = to_dict(before)
    return with_values(experiment, {key: get(settings, key) for key in experiment.auto}, "the config of the run")


def modules_of(layer: Layer) -> list[str]:
    """Returns the layer's `imports` if they are a list of names; other values are refused later, with their key."""
    names = layer.settings.get("imports")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def compose(layers: list[Layer], overrides: list[Layer]) -> Experiment:
    """Builds the experiment from all layers; later layers take precedence, overrides come last."""
    everything = [*layers, *overrides]
    for layer in everything:
        expand_names(layer.settings)
    schema = schema_of(everything, layers[-1].origin)
    for layer in everything:
        layer.settings = current_settings(layer.settings, schema)
    drop_other_families(layers, schema)
    settings = schema.defaults()
    for layer in everything:
        settings = merge_layer(settings, layer, schema)
    if isinstance(settings.get("imports"), list):
        modules = [*extension.GIVEN, *(name for layer in everything for name in modules_of(layer))]
        settings["imports"] = list(dict.fromkeys(modules))
    settings["auto"] = take_auto(settings, schema)
    try:
        experiment = validate(settings, schema)
        experiment.check()
        return experiment
    except ConfigError as error:
        origin = error.key and origin_of(error.key, everything)
        raise ConfigError(f"{origin or layers[-1].origin}: {error}", error.key) from None


def take_auto(settings: dict[str, Any], schema: Schema) -> Any:
    """Replaces the value `auto` of `auto_keys` with defaults, in place; returns these keys and those in `auto`."""
    listed, auto_keys = settings.get("auto"), [key for key in schema.task.auto_keys if get(settings, key) == AUTO]
    defaults = schema.defaults() if auto_keys else {}
    for key in auto_keys:
        parent, last = holder(settings, key)
        bound = schema.task.auto_keys[key]
        parent[last] = bounded(get(defaults, key), *bound, settings) if bound else get(defaults, key)
    return [*listed, *(key for key in auto_keys if key not in listed)] if isinstance(listed, list) else listed


def bounded(default: Any, choose: Callable[[list[int]], int], key: str, settings: dict[str, Any]) -> Any:
    """Clips a default number, or each of a list, to the numbers at `key`, where `choose` is min or max."""
    value = get(settings, key)
    bounds = value if isinstance(value, list) else [value]
    if any(type(bound) is not int for bound in bounds):
        return default
    return [choose([each, *bounds]) for each in default] if isinstance(default, list) else choose([default, *bounds])


def merge_layer(settings: dict[str, Any], layer: Layer, schema: Schema) -> dict[str, Any]:
    try:
        return merge(settings, layer.settings, schema)
    except ConfigError as error:
        raise ConfigError(f"{layer.origin}: {error}") from None
