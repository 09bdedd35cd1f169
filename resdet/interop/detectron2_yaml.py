"""Reads detectron2's YAML files, including their `_BASE_` files, as flat dicts."""

import ast
from pathlib import Path
from typing import Any

from resdet import config as configs
from resdet.config import files
from resdet.errors import ConfigError


def read(path: Path, visited: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Reads the settings of a file and its bases: {"MODEL.RPN.NMS_THRESH": 0.7, …}."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the path of a YAML config of detectron2.")
    if path.resolve() in visited:
        raise ConfigError(f"{path}: its _BASE_ files form a cycle: remove one.")
    content = files.read(path)
    bases = content.pop("_BASE_", None) or []
    inherited: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        inherited |= read(path.parent / Path(base).expanduser(), (*visited, path.resolve()))
    return inherited | flat(content)


def flat(settings: dict, prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in settings.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": decode(value)}
    return result


def decode(value: Any) -> Any:
    """Evaluates literals in strings, as in STEPS: (60000, 80000)."""
    if isinstance(value, list):
        return [decode(entry) for entry in value]
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # the documented exceptions
            pass
    return configs.plain(value)


def nested(settings: dict[str, Any]) -> dict:
    """{"model.rpn.nms": 0.7} -> {"model": {"rpn": {"nms": 0.7}}}."""
    result: dict = {}
    for key, value in settings.items():
        *sections, last = key.split(".")
        inner = result
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return result
