"""Config files: found by path or by name, read after their `_base_` files."""

import difflib
import os
from pathlib import Path
from typing import Any

from resdet.config.layers import Layer
from resdet.config.yaml_reader import MAX_CHARACTERS, parse
from resdet.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
CONFIG_FOLDERS = (Path("configs"), PACKAGE.parent / "configs", PACKAGE / "configs")  # here, the checkout, the install
MAX_BASES = 100


def find(config: str | Path) -> Path:
    """The file of a config: the path itself, or a name in configs/, with or without its ending."""
    config = Path(config)
    candidates = [path for folder in CONFIG_FOLDERS for path in (folder / config, folder / f"{config}.yaml")]
    for candidate in (config, *candidates):
        if os.path.isfile(candidate):  # False, not an OSError, for a name that the system refuses
            return candidate
    near = difflib.get_close_matches(config.stem, shipped(), n=1)
    hint = f"did you mean {near[0]}.yaml?" if near else f"there are {', '.join(shipped())}."
    raise ConfigError(f"There is no config {str(config)!r}, neither as a file nor in configs/: {hint}")


def shipped() -> list[str]:
    """The names of the configs that are found without a path."""
    return sorted({path.stem for folder in CONFIG_FOLDERS for path in folder.glob("*.yaml")})


def read(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not text in UTF-8, as a YAML file is.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    settings = parse(text, str(path))
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: a config is a mapping of sections (model, data, optim, …), and this is not.")
    return settings


def read_layers(path: Path, parents: tuple[Path, ...] = ()) -> list[Layer]:
    """The layers of a file: those of its `_base_` files, named relative to it or found in configs/, then its own."""
    if path.resolve() in parents:
        raise ConfigError(f"{path}: its _base_ leads back to itself.")
    settings = read(path)
    bases = settings.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _base_ is {bases!r}: give the name of a config, or a list of names.")
    layers: list[Layer] = []
    for base in bases:
        sibling = path.parent / base
        layers += read_layers(sibling if os.path.isfile(sibling) else find(base), (*parents, path.resolve()))
        if len(layers) + len(parents) > MAX_BASES:
            raise ConfigError(f"{path}: it has more than {MAX_BASES} _base_ files: leave some out.")
    return [*layers, Layer(str(path), settings)]
