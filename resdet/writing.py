"""Files that are written whole or not at all: who reads one, or goes on from it, never meets half of it."""

import json
import os
from pathlib import Path
from typing import Any, Callable


def write_atomically(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Writes beside `path`, flushes to the disk and renames: a reader sees the old file or the new one, whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: str | Path | None, content: Any) -> None:
    """With a line a value, for people to read; nothing where no file was asked for."""
    if path:
        write_text(path, json.dumps(content, indent=1))
