"""The output folder: a manifest and one Parquet file per part of the sorted list of images.

Part k holds the n images that start at index k·n. Files appear only when complete, so the files of a killed run are
its finished parts, and any process may write any part.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from resdet.batch_inference.images import Address
from resdet.errors import FileError
from resdet.files.atomic import check_folder, make_folder, write_json
from resdet.files.folder_lock import in_use, release_shared, try_lock, try_share
from resdet.files.json_file import read_json
from resdet.results.parquet import MANIFEST

IMAGES = 1000  # default number of images per part


@dataclass(frozen=True)
class Parts:
    """A sorted list of images, split into parts of `size` images with one file each in `folder`."""

    folder: Path
    images: Sequence[Address]
    size: int

    @property
    def count(self) -> int:
        return -(-len(self.images) // self.size)

    def images_of(self, number: int) -> Sequence[Address]:
        return self.images[number * self.size : (number + 1) * self.size]

    def file(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    def remaining(self) -> list[int]:
        """Returns the numbers of the parts without a file."""
        return [number for number in range(self.count) if not self.file(number).exists()]

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the list of images."""
        checksum = hashlib.sha256()
        for image in self.images:
            checksum.update(json.dumps(image).encode())
        return checksum.hexdigest()

    def manifest(self, settings: dict[str, Any]) -> dict[str, Any]:
        listed = {"images": len(self.images), "sha256": self.checksum}
        return {"parts": self.count, "images_per_part": self.size, "images": listed, "settings": settings}


def prepare_folder(folder: Path, manifest: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Writes the manifest, or checks it against that of an earlier run with finished parts; removes unfinished files.

    `defaults`: values of settings that manifests of earlier versions lack.
    """
    check_folder(folder)
    make_folder(folder)
    path = folder / MANIFEST
    if not any(folder.glob("*.parquet")):
        write_json(path, manifest)
    elif path.exists():
        check_same(folder, read_json(path), manifest, defaults)
    else:
        raise FileError(f"{folder} holds other Parquet files: give an empty folder, or a new one.")
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Removes the unfinished files of killed processes; call it only when no process is writing."""
    for unfinished in folder.glob(".part-*.tmp"):
        unfinished.unlink(missing_ok=True)


def check_same(folder: Path, old: Any, new: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Raises a FileError if the folder holds results of other images, another model or other settings."""
    given = old if isinstance(old, dict) else {}
    pairs = {key: (given.get(key), new[key]) for key in ("images", "images_per_part")}
    before = defaults | (given.get("settings") or {})
    pairs |= {key: (before.get(key), value) for key, value in new["settings"].items()}
    different = [key for key, (past, present) in pairs.items() if past != present]
    if different:
        raise FileError(
            f"{folder} holds results of another run, with different {' and '.join(different)}: give another folder, or "
            "the same model, settings and images to continue."
        )


@contextmanager
def locked(folder: Path) -> Iterator[IO[str]]:
    """Locks the folder against other commands."""
    lock = try_lock(folder)
    if lock is None:
        raise FileError(in_use(folder))
    try:
        yield lock
    finally:
        release_shared(lock, folder)


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Shares the lock of another process of the same command, so that either may end first."""
    lock = try_share(folder)
    try:
        yield
    finally:
        if lock is not None:
            release_shared(lock, folder)
