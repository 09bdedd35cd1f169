"""Indexes that a million images fit in: packed strings, and named arrays built once and memory-mapped after.

A Python list of a million paths takes 100 MB, and each loader worker that touches it gets its own copy, because
reading counts references. Arrays are shared by all workers for as long as nobody writes on them.
"""

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from resdet.errors import DataError

FORMAT = 3  # of the folders that `cached` writes; a change makes all of them stale
MANIFEST = "manifest.json"
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
    places: Sequence[Path] = (),
    holds: Callable[[Arrays], bool] = lambda arrays: True,
) -> Arrays:
    """What `build()` returns, computed once for these source files and memory-mapped, read-only, from then on.

    `key` says what kind of index it is. It is kept in `cache_dir`; by default in a folder `.resdet` beside the first
    source, in the user's cache where that folder cannot be written, and nowhere where neither can. It is built again
    when a source's size or time of change differs, or anything in `state`, or it no longer `holds`, or is damaged. It
    depends on the paths of `places` too, not on their state. Processes that build at once do the work twice, and all
    get a whole index.
    """
    paths = [Path(source).resolve() for source in sources]
    family = f"{key}-{_digest([*paths, *(Path(place).resolve() for place in places)])}"
    name = f"{family}-{_digest([FORMAT, *map(_state, paths), *state])}"
    homes = [Path(cache_dir)] if cache_dir else [paths[0].parent / ".resdet", _user_cache()]
    for home in homes:
        arrays = _load(home / name)
        if arrays is not None and holds(arrays):
            return arrays
    log.info("indexing %s (once)", f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else paths[0])
    arrays = build()
    home = next((home for home in homes if _is_saved(arrays, home / name)), None)
    if home is None:
        log.warning("no index is kept in %s, and the next start builds it again", " or ".join(map(str, homes)))
        return arrays
    for stale in home.glob(f"{family}-*"):
        if stale.name != name:
            shutil.rmtree(stale, ignore_errors=True)
    return _load(home / name) or arrays


def _user_cache() -> Path:
    from resdet.files.download import cache_dir

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
    """Writes a folder of .npy files that appears at once, in place of a former one; False where the disk refuses."""
    temporary = folder.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for name, array in arrays.items():
            with open(temporary / f"{name}.npy", "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        (temporary / MANIFEST).write_text(json.dumps({name: _described(array) for name, array in arrays.items()}))
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


def _load(folder: Path) -> Arrays | None:
    """The arrays of a folder, memory-mapped; None where there is none, or it is not as `_save` left it."""
    if not folder.exists():
        return None
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_bytes()))
        arrays = {name: np.load(folder / f"{name}.npy", "r", allow_pickle=False).view(np.ndarray) for name in manifest}
        if manifest and manifest == {name: _described(array) for name, array in arrays.items()}:
            return arrays
    except (OSError, ValueError, TypeError, EOFError):
        pass
    log.warning("%s is damaged, and is built again", folder)
    return None


def _described(array: np.ndarray) -> list:
    return [array.dtype.str, list(array.shape)]
