"""Results in a JSON file that are recomputed when their key changes."""

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from resdet.errors import DataError, FileError
from resdet.files.atomic import write_text
from resdet.files.json_file import read_json


def cached_json(path: Path, key: str, compute: Callable[[], Any]) -> Any:
    """Returns the content of the file if it has this key; otherwise computes it and writes it if possible."""
    with suppress(DataError, TypeError, KeyError):  # missing or damaged
        entry = read_json(path)
        if entry["key"] == key:
            return entry["content"]
    content = compute()
    try:
        write_text(path, json.dumps({"key": key, "content": content}))
    except FileError as error:
        print(f"{error} The results are not cached.", file=sys.stderr)
    return content


def digest_of(values: Any) -> str:
    """Returns the SHA-256 of values of JSON types, for use in a key."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
