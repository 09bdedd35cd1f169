"""Errors that users can cause: one sentence with the problem, its location and the remedy.

The command prints the sentence and exits with status 2; a traceback indicates a bug in resdet.
"""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

LIMIT = 399  # maximum length of a message in characters
LONGEST_WORD = 100  # maximum length of a word in a shortened message
# Text that YAML parses as a string without quotes.
NAME = re.compile(r"(?!(true|false|null)$)([a-z/]|\d[\d_]*[a-df-z])([\w./:+-]*\w)?", re.ASCII | re.IGNORECASE)


class Error(Exception):
    """Base class of resdet's errors; the message is a single line of limited length."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(Error):
    """An experiment has an invalid key, type or value; `key` is the dotted key, or None."""

    def __init__(self, message: str, key: str | None = None):
        super().__init__(message)
        self.key = key


def require(condition: bool, key: str, value: Any, remedy: str) -> None:
    """Raises a ConfigError about the value of a key unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{key} is {spelled(value)}: {remedy}.", key)


def at_least(least: int, config: Any, section: str, *keys: str) -> None:
    """Validates that the values of these keys are not below `least`; null is allowed."""
    for key in keys:
        value = getattr(config, key)
        require(value is None or value >= least, f"{section}.{key}", value, f"give {least} or more")


def hint(name: object, known: Iterable[str], otherwise: str) -> str:
    """Returns the end of a message about an unknown name: the closest known name, ignoring case, or `otherwise`."""
    spellings = {one.lower(): one for one in known}
    near = difflib.get_close_matches(str(name).lower(), spellings, n=1)
    return f"did you mean {spellings[near[0]]}?" if near else otherwise


def number_of(count: int, one: str, several: str | None = None) -> str:
    """Formats a count with its noun: 1 image, 2 images; `several` is an irregular plural."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def spelled(value: Any) -> str:
    """Formats a value as in a config: true, not True; text in quotes unless it is a name."""
    bare = isinstance(value, str) and NAME.fullmatch(value)
    return value if bare else json.dumps(value, ensure_ascii=False, default=str)


class DataError(Error):
    """A file of a data set is missing, damaged or inconsistent."""

    def in_data_set(self) -> "DataError":
        """Returns the error for an image of a data set, with the remedies for data sets."""
        return self


class ImageError(DataError):
    """An image cannot be decoded."""

    def in_data_set(self) -> DataError:
        return DataError(f"{str(self).rstrip('.')}: delete it or set data.on_bad_image=skip.")


class FileError(Error):
    """A file or a folder cannot be written."""


class DeviceMemoryError(Error):
    """The GPU has no memory left."""


class WeightsError(Error):
    """A checkpoint cannot be read, or does not fit the model."""


class DownloadError(Error):
    """A file cannot be downloaded, or differs from the published one."""


def one_line(text: str) -> str:
    """Escapes control characters, and shortens a long text: first its long words, then the whole text."""
    text = printable(text)
    if len(text) > LIMIT:
        text = " ".join(shorten(word, LONGEST_WORD) for word in text.split(" "))
    return shorten(text, LIMIT)


def printable(text: str) -> str:
    """Escapes control characters, such as those in file names."""
    return "".join(character if character.isprintable() else escape(character) for character in text)


def escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shorten(text: str, length: int) -> str:
    """Replaces the middle of a long text with …"""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
