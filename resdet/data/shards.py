"""Data sets as tar files in WebDataset's convention: a few large files instead of millions of small ones.

    DST/train/000000.tar       00000123.jpg and its label, 00000123.cls or 00000123.json; then the next sample
    DST/train/shards.json      the shards with counts, sizes and checksums (an index as the library wids reads it)
    DST/train/index.npz        classification: position, size and label of each image
    DST/train/annotations.json detection: a COCO file; its `file_name`s are the positions of the images

Samples are named by their position in the data set and shuffled over the shards, for readers that read tar files from
start to end; resdet reads single images by position, in any order. The same data gives the same bytes.
"""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resdet.errors import DataError
from resdet.files.atomic import write_json
from resdet.files.download import digest
from resdet.files.json_file import read_json
from resdet.files.remote import INDEX
from resdet.files.tar_member import Member, Place

KEY = "{:08d}"
SUFFIXES = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}


class Limit(NamedTuple):
    """The maximum size of a shard: a number of images, or else of bytes."""

    images: int | None = None
    size: int = 256 * 10**6

    def is_reached(self, images: int, size: int) -> bool:
        return images >= self.images if self.images else size >= self.size


class Sample(NamedTuple):
    """The bytes of an image, the suffix of its file, and its label: a suffix and bytes."""

    image: bytes
    suffix: str
    label: tuple[str, bytes]


class Shard(NamedTuple):
    """A written tar file; `members` are its images by their position in the data set."""

    file: str
    members: dict[int, Member]
    sha256: str
    size: int

    def entry(self) -> dict[str, Any]:
        """Returns the shard's entry in the index."""
        return {"url": self.file, "nsamples": len(self.members), "filesize": self.size, "sha256": self.sha256}


def write_shards(folder: Path, count: int, sample: Callable[[int], Sample | None], limit: Limit) -> list[Shard]:
    """Writes `sample(i)` of images 0 to count - 1 to folder/000000.tar …; None skips an image."""
    folder.mkdir(parents=True, exist_ok=True)
    order = iter(np.random.default_rng(0).permutation(count).tolist())
    shards: list[Shard] = []
    while (shard := _write_shard(folder / f"{len(shards):06d}.tar", order, sample, limit)) is not None:
        shards.append(shard)
    return shards


def write_index(folder: Path, shards: Sequence[Shard], side: Path, task: str, classes: Sequence[str]) -> None:
    """Writes the index; `side` is the file in `folder` with the positions of the images."""
    content = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "shardlist": [shard.entry() for shard in shards],
        "task": task,
        "classes": list(classes),
        "side": {"url": side.name, "filesize": side.stat().st_size, "sha256": digest(side, "sha256")},
    }
    write_json(folder / INDEX, content)


def read_index(folder: Path, task: str) -> dict[str, Any]:
    """Reads the index of a folder of shards."""
    content = read_json(folder / INDEX)
    if not isinstance(content, dict) or content.get("task") != task or not {"side", "classes"} <= content.keys():
        raise DataError(f"{folder / INDEX} is not an index of shards for {task}: write it by `resdet data shard`.")
    return content


def suffix_of(name: str) -> str:
    """Returns the suffix of an image as WebDataset decodes it."""
    suffix = Path(name).suffix.lower()
    return SUFFIXES.get(suffix, suffix)


def _write_shard(
    path: Path, order: Iterator[int], sample: Callable[[int], Sample | None], limit: Limit
) -> Shard | None:
    """Writes the next images up to the limit; returns None if there are no more."""
    members: dict[int, Member] = {}
    with open(path, "wb") as file:
        hashed = _Hashed(file)
        with tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            for i in order:
                if (content := sample(i)) is None:
                    continue
                name = KEY.format(i) + content.suffix
                place = Place(tar.offset + tarfile.BLOCKSIZE, len(content.image), zlib.crc32(content.image))
                members[i] = Member(path.name, place, name)
                _add(tar, name, content.image)
                _add(tar, KEY.format(i) + content.label[0], content.label[1])
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep all headers
                if limit.is_reached(len(members), tar.offset):
                    break
    if not members:
        path.unlink()
        return None
    return Shard(path.name, members, hashed.digest.hexdigest(), hashed.size)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # time, owner and group are 0
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


class _Hashed:
    """A file that is written sequentially, and its SHA-256."""

    def __init__(self, file: Any):
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.size
