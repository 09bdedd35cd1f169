"""Loggers and callbacks by name: entries of a registry, or `module:Class`."""

from typing import TypeVar

from resdet.errors import ConfigError, hint
from resdet.extension import load_object
from resdet.registry import Registry

T = TypeVar("T")


def find(registry: Registry[T], name: str) -> T:
    if ":" in name:
        return load_object(name, registry.key)
    if name not in registry:
        remedy = hint(name, registry, "name its class as module:Class, or the module that registers it in `imports`.")
        raise ConfigError(f"{registry.key}: there is no {registry.kind} named {name!r}: {remedy}", registry.key)
    return registry[name]
