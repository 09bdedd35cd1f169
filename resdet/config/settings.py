"""Settings as Python objects: validated copies, and access by dotted path."""

import re
from typing import Any

from resdet.errors import ConfigError

MAX_DEPTH = 40
MAX_VALUES = 100_000
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL and lone surrogates, invalid in paths and in UTF-8


def copy(settings: Any, origin: str) -> Any:
    """Copies to plain containers of plain values; raises for anything else, such as a dict that contains itself."""
    return Copier(origin).copy(settings, ())


class Copier:
    """Limits the number of values while copying: a small dict can contain many references to another one."""

    def __init__(self, origin: str):
        self.origin, self.values = origin, 0

    def copy(self, value: Any, path: tuple[str, ...]) -> Any:
        self.values += 1
        if len(path) > MAX_DEPTH or self.values > MAX_VALUES:
            raise self.error(path, "is nested too deeply or contains itself: give plain settings")
        if isinstance(value, dict):
            if not all(isinstance(key, str) and not NO_TEXT.search(key) for key in value):
                raise self.error(path, "has a key that is not valid text: give text keys")
            return {key: self.copy(entry, (*path, key)) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(entry, (*path, str(index))) for index, entry in enumerate(value)]
        if not isinstance(value, (str, bool, int, float, type(None))):
            raise self.error(path, f"is a {type(value).__name__}: give text, a number, a list or a mapping")
        if isinstance(value, str) and NO_TEXT.search(value):
            raise self.error(path, f"is {value!r}, with characters that are invalid in file names: remove them")
        return value

    def error(self, path: tuple[str, ...], problem: str) -> ConfigError:
        return ConfigError(f"{self.origin}: {'.'.join(path[:6]) or 'the experiment'} {problem}.")


def get(settings: Any, path: str) -> Any:
    """Returns the value at a dotted path; None if there is none."""
    for part in path.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def holder(settings: Any, path: str) -> tuple[Any, str]:
    """Returns the parent of a section (a mapping, unless the settings are wrong) and the last key of the path."""
    parent, _, last = path.rpartition(".")
    return (get(settings, parent) if parent else settings), last
