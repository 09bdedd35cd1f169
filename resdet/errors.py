"""The errors a user can cause: one sentence that says what is wrong, where, and how to mend it.

The command prints the sentence and exits with status 2; a traceback is for our own bugs.
"""

from typing import Any


class Error(Exception):
    """Base of everything that resdet raises on purpose."""


class ConfigError(Error):
    """A key, a type or a value of an experiment is wrong."""


def require(condition: bool, key: str, value: Any, remedy: str) -> None:
    """A ConfigError about a key whose value cannot be."""
    if not condition:
        raise ConfigError(f"{key} is {value!r}: {remedy}.")


class DataError(Error):
    """A file of a data set is missing, damaged, or says something impossible."""


class FileError(Error):
    """A file or a folder cannot be written."""


class WeightsError(Error):
    """A checkpoint cannot be read, or does not fit the model."""


class DownloadError(Error):
    """A file could not be fetched, or what arrived is not what was published."""
