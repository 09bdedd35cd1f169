"""Import of user modules that register backbones, heads, data formats, evaluators and tasks.

They are named in a config (`imports: [my_module]`) or on the command line (`--import my_module`). Checkpoints store the
names, but loading a checkpoint does not import them, since an untrusted file could name any module.
"""

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from resdet.errors import ConfigError

GIVEN: list[str] = []  # modules of `--import`, imported for each config of the command


def import_modules(names: Iterable[str], origin: str) -> None:
    """Imports modules by name, including those in the working directory; `origin`: the config or option, for errors."""
    for name in names:
        if name in sys.modules:
            continue
        if not name or name.startswith("."):
            raise ConfigError(f"{origin}: {name!r} is not the name of a module: give one such as my_module.")
        if name.endswith(".py") or os.path.basename(name) != name:
            folder, module = os.path.split(name.removesuffix(".py"))
            place = f", with {folder} in PYTHONPATH" if folder else ""
            raise ConfigError(f"{origin}: {name} is a path, not the name of a module: give {module}{place}.")
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"{origin}: cannot import the module {name} ({error}): add its folder to PYTHONPATH, or install it."
            ) from error
        except SyntaxError as error:
            raise ConfigError(f"{origin}: cannot import the module {name} ({error}): correct this line.") from error


def load_object(name: str, origin: str) -> Any:
    """Returns the object named `module:attribute`; `origin`: the config key, for errors."""
    module, _, attribute = name.partition(":")
    import_modules([module], origin)
    if not hasattr(sys.modules[module], attribute):
        raise ConfigError(f"{origin}: the module {module} has no {attribute!r}: correct the name.")
    return getattr(sys.modules[module], attribute)


def require_modules(names: Iterable[str], origin: str) -> None:
    """Refuses a checkpoint that requires modules not yet imported; `origin`: its file, for errors."""
    for name in names:
        if name not in sys.modules:
            raise ConfigError(
                f"{origin} needs the module {name}: import it before loading, or give --import {name} to the command."
            )
