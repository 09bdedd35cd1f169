"""Finds config files by path or name and reads them with their `_base_` files."""

import os
from pathlib import Path
from typing import Any

from resdet.config.layers import Layer
from resdet.config.yaml_reader import MAX_CHARACTERS, parse
from resdet.errors import ConfigError, hint, spelled

PACKAGE = Path(__file__).parents[1]
CONFIG_FOLDERS = (Path("configs"), PACKAGE.parent / "configs", PACKAGE / "configs")  # current folder, checkout, install
MAX_BASES = 100


def find(config: str | Path) -> Path:
    """Returns the file of a config, given by path or by name in configs/, with or without suffix."""
    config = Path(config)
    candidates = [path for folder in CONFIG_FOLDERS for path in (folder / config, folder / f"{config}.yaml")]
    for candidate in (config, *candidates):
        if os.path.isfile(candidate):  # returns False for an invalid file name, without an OSError
            return candidate
    names = [f"{name}.yaml" for name in shipped()]
    remedy = hint(f"{config.stem}.yaml", names, f"use one of {', '.join(shipped())}.")
    raise ConfigError(f"There is no config {str(config)!r}, neither as a file nor in configs/: {remedy}")


def shipped() -> list[str]:
    """Returns the names of the configs in configs/."""
    return sorted({path.stem for folder in CONFIG_FOLDERS for path in folder.glob("*.yaml")})


def read(path: Path) -> dict[str, Any]:
    """Reads the settings of a YAML file."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not UTF-8 text: give a YAML file in UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    settings = parse(text, str(path))
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: this is not a mapping: give a mapping of sections (model, data, optim, …).")
    return settings


def read_layers(path: Path, parents: tuple[Path, ...] = ()) -> list[Layer]:
    """Returns the layers of a file: first its `_base_` files, relative to it or in configs/, then the file itself."""
    if path.resolve() in parents:
        raise ConfigError(f"{path}: its _base_ files form a cycle: remove one.")
    settings = read(path)
    bases = settings.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _base_ is {spelled(bases)}: give the name of a config, or a list of names.")
    layers: list[Layer] = []
    for base in bases:
        sibling = path.parent / base
        layers += read_layers(sibling if os.path.isfile(sibling) else find(base), (*parents, path.resolve()))
        if len(layers) + len(parents) > MAX_BASES:
            raise ConfigError(f"{path}: more than {MAX_BASES} _base_ files: leave some out.")
    return [*layers, Layer(str(path), settings)]
