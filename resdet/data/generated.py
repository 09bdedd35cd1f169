"""Folders of generated data: they appear whole or not at all, and a marker in them tells what they were made with."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import DataError, FileError
from resdet.files.atomic import encode_image, file_errors, make_folder


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
    def write_all(folder: Path) -> None:
        write(folder)
        (folder / marker).write_text(json.dumps(arguments))

    try:
        create(root, write_all)
    except FileError:
        if not (root / marker).is_file():  # otherwise another process was faster
            raise


def create(root: Path, write: Callable[[Path], None]) -> None:
    """Makes `root`, absent or empty, by renaming the folder that `write` fills; a failure leaves nothing."""
    place = Path(os.path.realpath(root))
    # A mounted folder, and one whose parent is not ours, cannot be replaced: it is filled at the end, the marker last.
    fixed = place.is_dir() and (os.path.ismount(place) or not os.access(place.parent, os.W_OK))
    home = place if fixed else place.parent
    temporary = home / f".{place.name}-{uuid.uuid4().hex}"
    make_folder(home)
    try:
        with file_errors(root):
            temporary.mkdir()
            write(temporary)
            if fixed:
                for path in sorted(temporary.iterdir(), key=os.path.getmtime):
                    path.rename(place / path.name)
            else:
                temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put(path: Path, content: np.ndarray | bytes) -> None:
    """Writes a file, or an image uint8 RGB [H, W, 3], of a folder that is being made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else encode_image(path, content))
