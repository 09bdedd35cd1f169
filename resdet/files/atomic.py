"""Writes files whole or not at all: a reader meets the former file or the new one, and every failure is a FileError."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from resdet.errors import FileError

SPACE = "free some space"
RIGHTS = "name a place where you may write"
REMEDIES = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: RIGHTS,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.ENAMETOOLONG: "give it a shorter name",
}
Check = Callable[[Path], Any]


def accept(temporary: Path) -> None:
    """Checks nothing."""


def write_atomically(path: str | Path, write: Callable[[Path], Any], check: Check = accept) -> None:
    """Lets `write` fill a temporary file beside `path`, flushes it to the disk and renames it.

    `check` reads the temporary file before it is renamed, and raises where it must not replace the former one.
    """
    path = Path(path)
    if is_stream(path):
        with file_errors(path):
            write(path)
        return
    make_folder(path.parent)
    place = Path(os.path.realpath(path))  # a link stays, and the file it points to is replaced
    temporary = place.with_name(f".{place.name[:50]}.{os.getpid()}.tmp")
    try:
        with file_errors(path):
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        check(temporary)
        with file_errors(path):
            temporary.replace(place)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: str | Path, data: bytes | memoryview, check: Check = accept) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(data), check)


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path | None, content: Any) -> None:
    """Writes one value a line; nothing where `path` is None."""
    if path:
        write_text(path, json.dumps(content, indent=1))


def write_image(path: str | Path, pixels: Any) -> None:
    """Writes uint8 RGB [H, W, 3] in the format of the suffix."""
    write_bytes(path, encode_image(path, pixels))


def encode_image(path: str | Path, pixels: Any) -> bytes:
    """The content of an image file with the name `path`, of uint8 RGB [H, W, 3]."""
    import cv2

    done, data = cv2.imencode(Path(path).suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not done:
        height, width = pixels.shape[:2]
        raise FileError(f"{path} cannot be written: {width} × {height} pixels are too many for its format.")
    return data.tobytes()


def write_torch(path: str | Path, content: Any) -> None:
    """Writes what `torch.load` reads."""
    import torch

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            stream = Stream(file)
            torch.save(content, stream)
            if stream.error:
                raise stream.error

    write_atomically(path, fill)


class Stream:
    """Keeps the first error of a file for later: where a write raises, torch's writer may abort the process."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Leaves that to the end, when an error may be raised."""


def append_bytes(path: str | Path, data: bytes) -> None:
    """Adds `data` to the end of a file, or leaves the file as it was."""
    with file_errors(Path(path)), open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:])
        except OSError:
            file.truncate(before)
            raise


def make_folder(path: str | Path) -> None:
    """Makes a folder and those above it, unless they exist."""
    path = Path(path)
    refuse_blocked(path)
    with file_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def check_folder(path: str | Path) -> None:
    """Raises a FileError where no file could be written into the folder `path`, which need not exist yet."""
    refuse_blocked(Path(path))
    with file_errors(Path(path)):
        try_writing(nearest(Path(path)))


def check_file(path: str | Path) -> None:
    """Raises a FileError where the file `path` could not be written; called before the work that ends with it."""
    path = Path(path)
    if os.path.isdir(path):
        raise FileError(f"{path} is a folder: name a file in it.")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise FileError(f"{path} cannot be written (it is read-only): {RIGHTS}.")
    if not is_stream(path):
        refuse_blocked(path.parent)
        with file_errors(path):
            try_writing(nearest(path.parent))


def try_writing(folder: Path) -> None:
    with TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"\0")  # a full disk may make files, but takes no byte


def is_stream(path: Path) -> bool:
    """Whether `path` is a pipe or a device, such as /dev/stdout, which is written to and never replaced."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def nearest(path: Path) -> Path:
    """`path`, or the nearest one above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))


def refuse_blocked(folder: Path) -> None:
    place = nearest(folder)
    if not os.path.isdir(place):
        raise FileError(f"{folder} cannot be a folder, since {place} is none: name another one.")


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Raises an OSError of writing `path` as a FileError."""
    try:
        yield
    except OSError as error:
        raise FileError(describe(path, error)) from error


def describe(path: str | Path, error: OSError) -> str:
    """The sentence of a FileError: path, reason, what is kept, and how to mend it."""
    kept = ", and the former file is kept" if os.path.isfile(path) else ""
    remedy = REMEDIES.get(error.errno, "name another place")
    return f"{path} cannot be written ({error.strerror or error}){kept}: {remedy}."
