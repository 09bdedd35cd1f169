"""Results in a JSON file that are computed again when their key changes."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from resdet.errors import DataError
from resdet.files.atomic import write_text
from resdet.files.json_file import read_json


def cached_json(path: Path, key: str, compute: Callable[[], Any]) -> Any:
    """The content of the file if it was written with this key; otherwise computes and writes it."""
    with suppress(DataError):  # missing or damaged
        entry = read_json(path)
        if entry["key"] == key:
            return entry["content"]
    content = compute()
    write_text(path, json.dumps({"key": key, "content": content}))
    return content
