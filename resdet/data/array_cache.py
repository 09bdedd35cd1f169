"""Indexes of large data sets: packed strings, and named arrays that are built once and then memory-mapped.

A Python list of a million paths takes 100 MB, and each loader worker that reads it copies it, because reading changes
reference counts. Workers share arrays as long as no worker writes to them.
"""

import hashlib
import json
import logging
import os
import shutil
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from resdet.errors import DataError
from resdet.progress import Activity

FORMAT = 3  # version of the folders that `cached` writes; a change invalidates all of them
MANIFEST = "manifest.json"
HIDDEN = ".resdet"  # index folder, next to the data
Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)


class Strings:
    """n strings as a uint8 blob and int64 offsets [n + 1]; string i is blob[offsets[i]:offsets[i + 1]]."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray):
        self.blob = blob
        self.offsets = offsets

    @classmethod
    def pack(cls, strings: Iterable[str]) -> "Strings":
        blob, lengths = bytearray(), array("q", [0])
        for string in strings:
            encoded = string.encode("utf-8", "surrogateescape")  # Python's encoding of file names
            blob += encoded
            lengths.append(len(encoded))
        return cls(np.frombuffer(bytes(blob), np.uint8), np.cumsum(np.frombuffer(lengths, np.int64)))

    @classmethod
    def from_arrays(cls, arrays: Arrays, name: str) -> "Strings":
        return cls(arrays[f"{name}.blob"], arrays[f"{name}.offsets"])

    def arrays(self, name: str) -> Arrays:
        """Returns named arrays for `cached`; `from_arrays` with the same name restores the strings."""
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
    places: Sequence[Path] = (),
    holds: Callable[[Arrays], bool] = lambda arrays: True,
    home: Path | None = None,
) -> Arrays:
    """Returns the arrays of `build()`, computed once for these source files; later calls memory-map them read-only.

    `key` names the kind of index. The cache is `cache_dir`; by default a folder `.resdet` in `home` (the folder of the
    first source), or in the user's cache directory if that folder is not writable, or none. The index is rebuilt if the
    size or the modification time of a source or a value of `state` changes, if `holds` rejects it, or if it is damaged.
    It also depends on the paths of `places`, but not on their content. Processes that build concurrently repeat the
    work, and each gets a complete index.
    """
    paths = [Path(source).resolve() for source in sources]
    family = f"{key}-{_digest([*paths, *(Path(place).resolve() for place in places)])}"
    name = f"{family}-{_digest([FORMAT, *map(_state, paths), *state])}"
    home = home or paths[0].parent
    folders = [Path(cache_dir)] if cache_dir else [home / HIDDEN, user_cache()]
    for folder in folders:
        arrays = _read(folder / name)
        if arrays is not None and holds(arrays):
            return arrays
    named = paths or [home]
    what = f"indexing {named[0]}{f' and {len(named) - 1} more' if len(named) > 1 else ''} (once)"
    log.info(what)
    with Activity(what):
        arrays = build()
    saved = next((folder for folder in folders if _is_saved(arrays, folder / name)), None)
    if saved is None:
        log.warning("cannot write an index to %s; the next start rebuilds it", " or ".join(map(str, folders)))
        return arrays
    for stale in saved.glob(f"{family}-*"):
        if stale.name != name:
            shutil.rmtree(stale, ignore_errors=True)
    return _read(saved / name) or arrays


def user_cache() -> Path:
    from resdet.files.download import cache_dir

    return cache_dir() / "index"


def _digest(parts: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _state(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file ({error.strerror}); check the path in your config.") from error
    return stat.st_size, stat.st_mtime_ns


def _is_saved(arrays: Arrays, folder: Path) -> bool:
    """Writes the arrays atomically as a folder of .npy files, replacing an older one; returns False on an OSError."""
    temporary = folder.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for name, array in arrays.items():
            with open(temporary / f"{name}.npy", "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        (temporary / MANIFEST).write_text(json.dumps({name: _description(array) for name, array in arrays.items()}))
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.unlink(missing_ok=True)
        temporary.rename(folder)
    except OSError:
        return folder.is_dir()  # another process was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _read(folder: Path) -> Arrays | None:
    """Memory-maps the arrays of a folder; None if it is missing or damaged."""
    if not folder.exists():
        return None
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_bytes()))
        arrays = {name: np.load(folder / f"{name}.npy", "r", allow_pickle=False).view(np.ndarray) for name in manifest}
        if manifest and manifest == {name: _description(array) for name, array in arrays.items()}:
            return arrays
    except (OSError, ValueError, TypeError, EOFError):
        pass
    log.warning("%s is damaged; rebuilding it", folder)
    return None


def _description(array: np.ndarray) -> list:
    return [array.dtype.str, list(array.shape)]
