"""Indexes that a million images fit in: packed strings, and named arrays built once and memory-mapped after.

A Python list of a million paths takes 100 MB, and each loader worker that touches it gets its own copy, because
reading counts references. Arrays are shared by all workers for as long as nobody writes on them.
"""

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from resdet.errors import DataError

FORMAT = 2  # of the folders that `cached` writes; a change makes all of them stale
Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)


class Strings:
    """n strings as one uint8 blob and int64 offsets [n + 1]; string i is blob[offsets[i]:offsets[i + 1]]."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray):
        self.blob = blob
        self.offsets = offsets

    @classmethod
    def pack(cls, strings: Iterable[str]) -> "Strings":
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]  # as Python encodes file names
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    @classmethod
    def from_arrays(cls, arrays: Arrays, name: str) -> "Strings":
        return cls(arrays[f"{name}.blob"], arrays[f"{name}.offsets"])

    def arrays(self, name: str) -> Arrays:
        """To be kept among others by `cached`; `from_arrays` with the same name brings the strings back."""
        return {f"{name}.blob": self.blob, f"{name}.offsets": self.offsets}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> str:
        i = range(len(self))[i]
        return self.blob[self.offsets[i] : self.offsets[i + 1]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


def cached(
    key: str,
    sources: Sequence[Path],
    build: Callable[[], Arrays],
    cache_dir: Path | None = None,
    state: Iterable[object] = (),
) -> Arrays:
    """What `build()` returns, computed once for these source files and memory-mapped, read-only, from then on.

    `key` says what kind of index it is. It is kept in `cache_dir`; by default in a folder `.resdet` beside the first
    source, in the user's cache where that folder cannot be written, and nowhere where neither can. It is built again
    when a source's size or time of change differs, or anything in `state`. Processes that build at once do the work
    twice, and all get a whole index.
    """
    paths = [Path(source).resolve() for source in sources]
    family = f"{key}-{_digest(paths)}"
    name = f"{family}-{_digest([FORMAT, *map(_state, paths), *state])}"
    homes = [Path(cache_dir)] if cache_dir else [paths[0].parent / ".resdet", _user_cache()]
    for home in homes:
        if (home / name).is_dir():
            return _load(home / name)
    log.info("indexing %s (once)", f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else paths[0])
    arrays = build()
    home = next((home for home in homes if _is_saved(arrays, home / name)), None)
    if home is None:
        return arrays
    for stale in home.glob(f"{family}-*"):
        if stale.name != name:
            shutil.rmtree(stale, ignore_errors=True)
    return _load(home / name)


def _user_cache() -> Path:
    from resdet.download import cache_dir

    return cache_dir() / "index"


def _digest(parts: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _state(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path in your config") from error
    return stat.st_size, stat.st_mtime_ns


def _is_saved(arrays: Arrays, folder: Path) -> bool:
    """Writes a folder of .npy files that appears at once, and keeps one that exists; False where the disk refuses."""
    temporary = folder.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for name, array in arrays.items():
            with open(temporary / f"{name}.npy", "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(folder)
    except OSError:
        return folder.is_dir()  # another process was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _load(folder: Path) -> Arrays:
    files = sorted(folder.glob("*.npy"))
    return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray) for file in files}
