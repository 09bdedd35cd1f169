"""The errors a user can cause: one sentence that says what is wrong, where, and how to mend it.

The command prints the sentence and exits with status 2; a traceback is for our own bugs.
"""

from typing import Any

LIMIT = 399  # characters of a sentence
LONGEST_WORD = 100  # of a sentence that would be longer


class Error(Exception):
    """Base of everything that resdet raises on purpose; as text it is one line of limited length."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(Error):
    """A key, a type or a value of an experiment is wrong; `key` is the dotted key, where there is one."""

    def __init__(self, message: str, key: str | None = None):
        super().__init__(message)
        self.key = key


def require(condition: bool, key: str, value: Any, remedy: str) -> None:
    """A ConfigError about a key that cannot have its value."""
    if not condition:
        raise ConfigError(f"{key} is {value!r}: {remedy}.", key)


class DataError(Error):
    """A file of a data set is missing, damaged, or says something impossible."""


class FileError(Error):
    """A file or a folder cannot be written."""


class WeightsError(Error):
    """A checkpoint cannot be read, or does not fit the model."""


class DownloadError(Error):
    """A file could not be fetched, or what arrived is not what was published."""


def one_line(text: str) -> str:
    """Without control characters; long words, then the whole, lose their middle."""
    text = "".join(character if character.isprintable() else escape(character) for character in text)
    if len(text) > LIMIT:
        text = " ".join(shorten(word, LONGEST_WORD) for word in text.split(" "))
    return shorten(text, LIMIT)


def escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shorten(text: str, length: int) -> str:
    """Its beginning and its end, with … between."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
