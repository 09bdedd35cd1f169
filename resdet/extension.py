"""Modules of users, which register backbones, heads, data formats, evaluators and tasks of their own.

A config names them (`imports: [my_module]`) or a command does (`--import my_module`). Checkpoints remember their names;
loading a checkpoint imports nothing, since a file from elsewhere could name any module.
"""

import os
import sys
from collections.abc import Iterable
from importlib import import_module

from resdet.errors import ConfigError

GIVEN: list[str] = []  # by `--import`: each config of the command has them


def import_modules(names: Iterable[str], origin: str) -> None:
    """Imports modules by name, from the working directory as well; `origin` is the config or the option."""
    for name in names:
        if name in sys.modules:
            continue
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"{origin}: the module {name} cannot be imported ({error}): put its folder on PYTHONPATH, or install it."
            ) from error


def require_modules(names: Iterable[str], origin: str) -> None:
    """Refuses a checkpoint whose modules are not imported yet."""
    for name in names:
        if name not in sys.modules:
            raise ConfigError(
                f"{origin} needs the module {name}, which registers its parts: import it first, or give "
                f"--import {name} to the command."
            )
