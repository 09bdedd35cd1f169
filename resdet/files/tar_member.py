"""Files inside uncompressed tar files, read in place by a path that contains their position.

    train/000000.tar@1536+20480-9f3a21c0/000123.jpg

is the 20,480 bytes from byte 1,536 of train/000000.tar, with the CRC-32 9f3a21c0 (optional) and the name 000123.jpg.
Such a path can be used wherever a data set refers to an image; reading it is one read, in any order and from any
process, without unpacking. Tar files of a remote folder (resdet.files.remote) are read from there.
"""

import functools
import os
import re
import zlib
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple

from resdet.errors import DataError
from resdet.files import remote
from resdet.system import read_at

OPEN_FILES = 64  # at a time; a thousand class tars would exceed the limit of open files
MARK = ".tar@"
MEMBER = re.compile(r"(.*\.tar)@(\d+)\+(\d+)(?:-([0-9a-f]{8}))?[/\\](.+)", re.DOTALL)


class Place(NamedTuple):
    """The position of the bytes of a member; `crc` is their CRC-32, None if unknown."""

    offset: int
    size: int
    crc: int | None = None


class Member(NamedTuple):
    """A file in a tar file."""

    tar: str
    place: Place
    name: str

    def __str__(self) -> str:
        offset, size, crc = self.place
        return f"{self.tar}@{offset}+{size}{'' if crc is None else f'-{crc:08x}'}/{self.name}"


def member_of(path: str | Path) -> Member | None:
    """Parses the member in a path; None for the path of a file."""
    match = MEMBER.fullmatch(str(path)) if MARK in str(path) else None
    if not match:
        return None
    tar, offset, size, crc, name = match.groups()
    return Member(tar, Place(int(offset), int(size), int(crc, 16) if crc else None), name)


def placeless(path: str | Path) -> PurePath:
    """Returns the path of a file; for a member, its path without the position, in a folder for its tar file:
    000000/000123.jpg."""
    member = member_of(path)
    return PurePath(member.tar).with_suffix("") / member.name if member else PurePath(path)


def exists(path: str | Path) -> bool:
    """Whether a file, or the tar file of a member, exists."""
    member = member_of(path)
    return os.path.isfile(member.tar if member else path) or is_remote(path)


def is_remote(path: str | Path) -> bool:
    """Whether the path is that of a member of a remote tar file."""
    member = member_of(path)
    return member is not None and remote.origin_of(Path(member.tar).parent) is not None


def size_of(path: str | Path) -> int:
    """Returns the size of a file or a member in bytes."""
    member = member_of(path)
    return member.place.size if member else os.path.getsize(path)


def read_member(member: Member) -> bytes:
    return read_place(member.tar, member.place, f"{member.tar}:{member.name}")


def read_place(tar: str | Path, place: Place, name: str) -> bytes:
    """Reads the bytes at a place of a tar file; `name` is used in a DataError."""
    origin = remote.origin_of(Path(tar).parent)
    if origin:
        return origin.read(Path(tar).name, place.offset, place.size, place.crc)
    try:
        state = os.stat(tar)
        # Keep a reference, so that another thread cannot close the file in the meantime.
        file = _open(str(tar), state.st_ino, state.st_mtime_ns)
        data = read_at(file, place.size, place.offset)
    except OSError as error:
        raise DataError(f"{tar}: cannot read the file ({error.strerror}); restore it.") from error
    if len(data) < place.size:
        raise DataError(f"{name} is truncated: download the tar file again.")
    if place.crc is not None and zlib.crc32(data) != place.crc:
        raise DataError(f"{name} differs from its checksum: write or download the tar file again.")
    return data


@functools.lru_cache(OPEN_FILES)
def _open(path: str, inode: int, modified: int) -> BinaryIO:
    """Opens the file; opens it again when another file has replaced it."""
    return open(path, "rb", buffering=0)
