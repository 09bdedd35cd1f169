"""Folders of generated data: they appear whole or not at all, and a marker in them tells what they were made with."""

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resdet.errors import DataError


def refuse_filled(root: Path) -> None:
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root} is not empty: name a new folder.")


def ensure(root: Path, marker: str, what: str, arguments: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Does nothing where the data set with these arguments is already there; `what` is in it. Processes may call it
    at once."""
    if not (root / marker).is_file():
        _make(root, marker, arguments, write)
    found = json.loads((root / marker).read_text())
    if found != arguments:
        differences = ", ".join(f"{key}={found.get(key)}" for key in arguments if found.get(key) != arguments[key])
        raise DataError(f"{root} holds generated {what} with other settings ({differences}): name another folder.")


def _make(root: Path, marker: str, arguments: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Everything into a folder beside `root` that takes its place when it is whole."""
    temporary = root.absolute().with_name(f".{root.name}-{uuid.uuid4().hex}")
    try:
        write(temporary)
        (temporary / marker).write_text(json.dumps(arguments))
        temporary.rename(root)
    except OSError as error:
        if not (root / marker).is_file():  # otherwise another process was faster
            raise DataError(f"{root} cannot be written ({error.strerror}): name a new folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
