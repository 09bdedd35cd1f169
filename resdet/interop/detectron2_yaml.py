"""detectron2's YAML files, `_BASE_` and all, as flat dicts; and flat dicts as nested ones."""

import ast
from pathlib import Path
from typing import Any

from resdet import config as configs
from resdet.config import files
from resdet.errors import ConfigError


def read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """{"MODEL.RPN.NMS_THRESH": 0.7, …}: what the file and its bases set."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; give the path of one of detectron2's YAML configs.")
    if path.resolve() in seen:
        raise ConfigError(f"{path}: its _BASE_ leads back to itself.")
    content = files.read(path)
    base = content.pop("_BASE_", None)
    inherited = read(path.parent / Path(base).expanduser(), (*seen, path.resolve())) if base else {}
    return inherited | flat(content)


def flat(settings: dict, prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": decoded(value)}
    return found


def decoded(value: Any) -> Any:
    """Their YAML has tuples, numbers and True as text, as in STEPS: (60000, 80000)."""
    if isinstance(value, list):
        return [decoded(entry) for entry in value]
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # as its documentation lists them
            pass
    return configs.plain(value)


def nested(settings: dict[str, Any]) -> dict:
    """{"model.rpn.nms": 0.7} -> {"model": {"rpn": {"nms": 0.7}}}."""
    found: dict = {}
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return found
