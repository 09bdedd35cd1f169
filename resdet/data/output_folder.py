"""Folders of generated data: written atomically, with a marker file that records the settings."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import DataError, FileError
from resdet.files.atomic import file_errors, make_folder
from resdet.files.tar_member import member_of, read_member
from resdet.images.encode import encode_image
from resdet.progress import Activity
from resdet.system import replaces_empty_folders


def refuse_filled(root: Path) -> None:
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root} is not empty: name a new folder.")


def check_target(target: Path | str, *sources: Path | str) -> None:
    """Before any work, raises a DataError if the folder `target` is not empty, or is inside a source, which would then
    contain both data sets."""
    refuse_filled(Path(target))
    place = Path(os.path.realpath(target))
    for source in sources:
        if place.is_relative_to(os.path.realpath(source)):
            raise DataError(f"{target} is inside {source}, which would hold both data sets: name a folder elsewhere.")


def ensure(root: Path, marker: str, kind: str, arguments: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Generates the data set unless `root` contains it; `kind`: its content, for errors. Safe in several processes."""
    if not (root / marker).is_file():
        _make(root, marker, arguments, write)
    settings = json.loads((root / marker).read_text())
    if settings != arguments:
        differences = ", ".join(
            f"{key}={settings.get(key)}" for key in arguments if settings.get(key) != arguments[key]
        )
        raise DataError(f"{root} holds generated {kind} with other settings ({differences}): name another folder.")


def _make(root: Path, marker: str, arguments: dict[str, Any], write: Callable[[Path], None]) -> None:
    def write_all(folder: Path) -> None:
        write(folder)
        (folder / marker).write_text(json.dumps(arguments))

    try:
        create(root, write_all)
    except FileError:
        if not (root / marker).is_file():  # otherwise another process has written it
            raise


def create(root: Path, write: Callable[[Path], None]) -> None:
    """Creates `root`, a missing or empty folder, by renaming a folder that `write` fills; leaves nothing on failure."""
    place = Path(os.path.realpath(root))
    # A mount point, a folder in a read-only parent, and any folder on Windows cannot be replaced: move the files into
    # it, the marker last.
    replaceable = replaces_empty_folders() and not os.path.ismount(place) and os.access(place.parent, os.W_OK)
    fixed = place.is_dir() and not replaceable
    parent = place if fixed else place.parent
    temporary = parent / f".{place.name}-{uuid.uuid4().hex}"
    make_folder(parent)
    try:
        with Activity(f"writing {root}"), file_errors(root):
            temporary.mkdir()
            write(temporary)
            if fixed:
                for path in sorted(temporary.iterdir(), key=os.path.getmtime):
                    path.rename(place / path.name)
            else:
                temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy(source: Path | str, path: Path) -> None:
    """Copies a file, or a member of a tar file; creates the parent folders."""
    if member := member_of(source):
        put(path, read_member(member))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)


def link(source: Path | str, path: Path) -> None:
    """Creates a hard link to a file, or a copy if the file system has no links, and the parent folders; copies members
    of tar files."""
    if member_of(source):
        copy(source, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), path)
    except OSError:
        shutil.copyfile(source, path)


def put(path: Path, content: np.ndarray | bytes) -> None:
    """Writes bytes or an image, uint8 RGB [H, W, 3]; creates the parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else encode_image(path, content))
