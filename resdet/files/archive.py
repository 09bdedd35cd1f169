"""Unpacks archives to folders that appear only when they are complete."""

import gzip
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from resdet.errors import DataError
from resdet.progress import Activity

CHUNK = 1 << 16
# Raised by the standard library for damaged and encrypted archives and for unknown compression.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
)


def unpack(archive: Path, folder: Path, members: str | None = None) -> Path:
    """Unpacks a .tar, .tar.gz or .zip file, or only its folder `members`, into `folder`, and returns `folder`.

    The folder appears when it is complete; an existing one stays unchanged. Nothing is written outside of it. Failures
    raise a DataError.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        return folder
    if not archive.is_file():
        raise DataError(f"{archive}: no such file: download it first.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
            whole = Path(temporary, "whole")
            whole.mkdir()
            with Activity(f"unpacking {archive.name}"):
                _extract(archive, whole, members)
            source = whole / members if members else whole
            if not source.is_dir():
                raise DataError(f"{archive} contains no folder {members}: delete it and download the right archive.")
            _move(source, folder)
    except DAMAGE as problem:
        reason = str(problem).partition(":\n")[0]  # on further lines, tarfile lists the formats it tried
        raise DataError(f"{archive} cannot be unpacked ({reason}): delete it and download it again.") from problem
    except OSError as problem:
        raise DataError(f"{archive} cannot be unpacked into {folder} ({problem}): choose another folder.") from problem
    return folder


def _extract(archive: Path, folder: Path, members: str | None) -> None:
    def selected(name: str) -> bool:
        return members is None or PurePosixPath(name).is_relative_to(members)

    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:  # removes roots and '..', and creates no links
            zipped.extractall(folder, [name for name in zipped.namelist() if selected(name)])
        return
    with tarfile.open(archive) as tar:
        for item in tar:
            if selected(item.name):
                _extract_item(tar, item, folder)
        while tar.fileobj and tar.fileobj.read(CHUNK):  # gzip verifies its checksum at the end
            pass


def _extract_item(tar: tarfile.TarFile, item: tarfile.TarInfo, folder: Path) -> None:
    """Replaces the filters of `tarfile`, which some versions of Python 3.10 and 3.11 lack."""
    name = PurePosixPath(item.name.lstrip("/"))
    if ".." in name.parts:
        raise tarfile.TarError(f"{item.name} points outside the archive")
    if not (item.isfile() or item.isdir()):  # links would break when `folder` is moved
        raise tarfile.TarError(f"{item.name} is neither a file nor a folder")
    path = folder / name
    if item.isdir():
        return path.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if source := tar.extractfile(item):
        with source, path.open("wb") as target:
            shutil.copyfileobj(source, target)


def _move(source: Path, folder: Path) -> None:
    try:
        source.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process unpacked the same archive first
            raise
