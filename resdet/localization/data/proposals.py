"""Proposals of a whole data set (appendix C) in memory-mapped files, computed once, image by image.

An interrupted computation resumes where it stopped, and several processes may write to the same files.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from resdet.errors import DataError
from resdet.images.decode import Source

MISSING = -1


class ProposalFiles:
    """Boxes of N images, at most `most` each, by decreasing score."""

    def __init__(self, folder: Path, images: int, most: int):
        """Opens the files, and creates missing ones."""
        self.folder, self.images, self.most = Path(folder), images, most
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.boxes = _mapped(self.folder / "boxes.npy", np.float32, (images, most, 4))
            self.counts = _mapped(self.folder / "counts.npy", np.int32, (images,), MISSING)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot write proposals there ({error.strerror}); name another folder in model.cache."
            ) from error

    def __reduce__(self) -> tuple:
        """Pickles the path, since a memory map must not be copied; another process opens the files again."""
        return ProposalFiles, (self.folder, self.images, self.most)

    def missing(self) -> np.ndarray:
        """Returns the indices of images without proposals, int64 [m]."""
        return np.flatnonzero(self.counts == MISSING)

    def write(self, i: int, boxes: np.ndarray) -> None:
        """Writes the first `most` of the boxes, float32 [k, 4], and then their count, which marks them as complete."""
        count = min(len(boxes), self.most)
        self.boxes[i, :count] = boxes[:count]
        self.counts[i] = count

    def flush(self) -> None:
        self.boxes.flush()
        self.counts.flush()

    def __getitem__(self, i: int) -> np.ndarray:
        return np.array(self.boxes[i, : max(0, int(self.counts[i]))])


def key_of(weights: Mapping[str, Tensor], settings: Any, source: Source) -> str:
    """Hashes everything that the proposals depend on: the RPN's weights, the settings, and the images."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    names = (source.name(i) for i in (0, len(source) // 2, len(source) - 1))
    digest.update("\n".join(map(str, (settings, len(source), *names))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def reserve(path: Path) -> None:
    """Allocates the disk space of a sparse file: writing to its memory map on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _write(path: Path, dtype: type, shape: tuple[int, ...], fill: int) -> None:
    """Creates the file and unmaps it: Windows does not remove mapped files."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    reserve(path)
    if fill:
        array[:] = fill
    array.flush()


def _mapped(path: Path, dtype: type, shape: tuple[int, ...], fill: int = 0) -> np.memmap:
    """Maps the file for writing; creates it under a temporary name, so that no process opens an incomplete file."""
    if not path.exists():
        temporary = path.with_name(f".{uuid.uuid4().hex}.npy")
        try:
            _write(temporary, dtype, shape, fill)
            os.link(temporary, path)  # unlike a rename, this does not replace the file of another process
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
    return np.lib.format.open_memmap(path, "r+")
