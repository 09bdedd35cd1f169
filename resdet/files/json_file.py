"""Reads JSON files."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resdet.errors import DataError


def read_json(file: Path | str) -> Any:
    """Reads a file; raises a DataError for invalid JSON and for duplicate keys, which parsers treat differently."""
    try:
        text = Path(file).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError: a name with NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{file} cannot be read ({reason}): give a JSON file.") from error
    try:
        with without_collection():
            return json.loads(text, object_pairs_hook=without_duplicates)
    except ValueError as error:
        raise DataError(f"{file} is not valid JSON ({error}): write, export or download it again.") from error
    except RecursionError as error:
        raise DataError(f"{file} is nested too deeply: write, export or download it again.") from error


@contextmanager
def without_collection() -> Iterator[None]:
    """Disables garbage collection: scans of millions of new lists would take a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds an object from a parser's pairs; raises a ValueError for a duplicate key."""
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!a}")
    return entry
