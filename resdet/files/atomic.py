"""Atomic writes: readers see either the old or the new file, and every failure is a FileError."""

import errno
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import get_native_id
from typing import IO, Any, BinaryIO, cast

from resdet.errors import FileError
from resdet.system import replace

SPACE = "free some space"
PERMISSION = "choose a folder with write permission"
REMEDIES = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: PERMISSION,
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.ENAMETOOLONG: "choose a shorter name",
}
Check = Callable[[Path], Any]


def accept(temporary: Path) -> None:
    """Accepts every file."""


def write_atomically(path: str | Path, write: Callable[[Path], Any], check: Check = accept) -> None:
    """Calls `write` with a temporary file in the folder of `path`, syncs it to disk and renames it.

    `check` reads the temporary file before the rename, and raises to keep the old file. Pipes and devices are written
    directly.
    """
    path = Path(path)
    if is_stream(path):
        with file_errors(path):
            write(path)
        return
    make_folder(path.parent)
    target = Path(os.path.realpath(path))  # replaces the target of a link, not the link
    temporary = target.with_name(f".{target.name[:50]}.{os.getpid()}.{get_native_id()}.tmp")
    try:
        with file_errors(path):
            write(temporary)
            with temporary.open("r+b") as file:  # Windows syncs only files that are open for writing
                os.fsync(file.fileno())
        check(temporary)
        with file_errors(path):
            replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: str | Path, data: bytes | memoryview, check: Check = accept) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(data), check)


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_parts(path: str | Path, parts: Iterable[str]) -> None:
    """Writes a text in parts, so that it is never completely in memory."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.writelines(part.encode("utf-8") for part in parts)

    write_atomically(path, write)


def write_json(path: str | Path | None, content: Any) -> None:
    """Writes one value per line; nothing if `path` is None. NaN and infinity, which JSON lacks, become null."""
    if not path:
        return
    try:
        text = json.dumps(content, indent=1, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(content), indent=1)
    write_text(path, text)


def finite(content: Any) -> Any:
    """Returns the content with None for NaN and infinity."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_torch(path: str | Path, content: Any) -> None:
    """Writes a file for `torch.load`."""
    import torch

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            stream = Stream(file)
            torch.save(content, cast(IO[bytes], stream))
            if stream.error:
                raise stream.error

    write_atomically(path, save)


class Stream:
    """Defers the first error of a file: torch's writer may abort the process if a write raises."""

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
        """Does nothing: closing the file flushes, and may raise."""


def append_bytes(path: str | Path, data: bytes) -> None:
    """Appends `data` to a file; the file is unchanged after an error."""
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
    """Creates a folder and its parents if they do not exist."""
    path = Path(path)
    refuse_blocked(path)
    with file_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def check_folder(path: str | Path) -> None:
    """Raises a FileError if files cannot be written to the folder `path`, which need not exist."""
    refuse_blocked(Path(path))
    with file_errors(Path(path)):
        try_writing(nearest(Path(path)))


def check_file(path: str | Path) -> None:
    """Raises a FileError if the file `path` cannot be written; called before the work whose result it stores."""
    path = Path(path)
    if os.path.isdir(path):
        raise FileError(f"{path} is a folder: give the path of a file.")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise FileError(f"{path} cannot be written (it is read-only): {PERMISSION}.")
    if not is_stream(path):
        refuse_blocked(path.parent)
        with file_errors(path):
            try_writing(nearest(path.parent))


def check_not_input(path: str | Path, source: str | Path, option: str = "--out") -> None:
    """Raises a FileError if the output file `path` is the input file `source`."""
    if os.path.exists(source) and os.path.exists(path) and os.path.samefile(path, source):
        raise FileError(f"{path} is an input file: give another output file with {option}.")


def check_not_inputs(outputs: Mapping[str, str | None], sources: Iterable[str | Path]) -> None:
    """Applies `check_not_input` to each output, by option, and each source."""
    for source in sources:
        for option, path in outputs.items():
            if path:
                check_not_input(path, source, option)


def try_writing(folder: Path) -> None:
    with TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"\0")  # a full disk may create files but store no bytes


def is_stream(path: Path) -> bool:
    """Whether `path` is a pipe or a device, such as /dev/stdout, which cannot be replaced."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def nearest(path: Path) -> Path:
    """Returns `path`, or its nearest existing parent."""
    return next(parent for parent in (path, *path.absolute().parents) if os.path.lexists(parent))


def refuse_blocked(folder: Path) -> None:
    parent = nearest(folder)
    if not os.path.isdir(parent):
        raise FileError(f"{folder}: cannot create the folder ({parent} is not a folder): choose another one.")


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Converts an OSError to a FileError about writing `path`."""
    try:
        yield
    except OSError as error:
        raise FileError(describe(path, error)) from error


def describe(path: str | Path, error: OSError) -> str:
    """Returns the message of a FileError: path, reason, whether an old file is kept, and the remedy."""
    kept = "; the old file is kept" if os.path.isfile(path) else ""
    remedy = REMEDIES.get(error.errno or 0, "choose another path")
    return f"{path} cannot be written ({error.strerror or error}){kept}: {remedy}."
