"""Images read in place from tar files: ImageNet's own archives, a tar per class, WebDataset shards.

The members are indexed once (name, shard, offset, size, label); an image is then one `pread`, in any order, from as
many workers as there are, and nothing is ever unpacked.
"""

import functools
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from resdet.data.array_cache import Arrays, Strings, cached
from resdet.data.folder import is_image
from resdet.errors import DataError
from resdet.images.decode import EncodedImage

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
MAX_CLASSES = 2**20
OPEN_FILES = 64  # at a time; a thousand class tars would exceed what a process may hold open


class Member(NamedTuple):
    """An image in a tar: its bytes lie at `offset`; its label is a number (from a .cls file) or a class name."""

    name: str
    offset: int
    size: int
    label: int | str


class TarImages:
    """The images in uncompressed tar files, sorted by name within each file.

    The label of a member is, by what is found: the number in its WebDataset pair (`0001.jpg` beside `0001.cls`); the
    folder that it lies in (`n01440764/x.JPEG`); the name of its tar file (`n01440764.tar`), which may itself be a
    member of a tar, as in ILSVRC2012_img_train.tar. `classes` are by default the names found, sorted, or with .cls
    files the numbers from 0 to the largest. The index is kept in `cache_dir`, by default beside the first file.
    """

    def __init__(
        self, paths: Sequence[Path | str], classes: Sequence[str] | None = None, cache_dir: Path | None = None
    ):
        self.shards = _Shards([Path(path) for path in paths])
        index = cached("tars", self.shards.paths, lambda: _build(self.shards.paths), cache_dir)
        self.names = Strings.from_arrays(index, "names")
        self._shard, self._offset, self._size = index["shard"], index["offset"], index["size"]
        found = list(Strings.from_arrays(index, "classes"))
        numbered = not found
        if classes is None:
            classes = [str(i) for i in range(index["label"].max() + 1)] if numbered else found
        self.classes = list(classes)
        self.labels = np.array(index["label"]) if numbered else self._relabel(index["label"], found)
        self._check_range()

    def __len__(self) -> int:
        return len(self.names)

    def name(self, i: int) -> str:
        return f"{self.shards.paths[self._shard[i]]}:{self.names[i]}"

    def image(self, i: int) -> EncodedImage:
        data = self.shards.read(self._shard[i], self._offset[i], self._size[i])
        if len(data) < self._size[i]:
            raise DataError(f"{self.name(i)} is cut short: fetch the tar file again")
        return EncodedImage(data, self.name(i))

    def header_size(self, i: int) -> tuple[int, int]:
        return self.image(i).size

    def _relabel(self, labels: np.ndarray, found: list[str]) -> np.ndarray:
        position = {name: i for i, name in enumerate(self.classes)}
        for label, name in enumerate(found):
            if name not in position:
                member = self.name(int(np.argmax(labels == label)))
                raise DataError(f"{member} is of class {name}, not one of the {len(position)} classes: remove it")
        return np.array([position[name] for name in found], np.int64)[labels]

    def _check_range(self) -> None:
        wrong = self.labels >= len(self.classes)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise DataError(
                f"{self.name(i)} has the label {self.labels[i]}, but there are {len(self.classes)} "
                "classes: correct its .cls file or give all class names"
            )


class _Shards:
    """The tar files, each opened at its first read in a process; pread leaves no position for forks to fight over."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self._file = functools.lru_cache(OPEN_FILES)(lambda shard: open(paths[shard], "rb", buffering=0))

    def __reduce__(self) -> tuple:
        return _Shards, (self.paths,)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        try:
            file = self._file(int(shard))  # held by this name, so that another thread cannot close it now
            return os.pread(file.fileno(), int(size), int(offset))
        except OSError as error:
            raise DataError(f"{self.paths[shard]} cannot be read ({error.strerror}): restore it") from error


def _build(paths: list[Path]) -> Arrays:
    """The index of all shards; labels of named classes are positions among the sorted names."""
    members, shard = [], []
    for number, path in enumerate(paths):
        found = sorted(_read_tar(path))
        if not found:
            raise DataError(f"{path} holds no images: remove it from the folder, or check that it is the right file")
        members += found
        shard += [number] * len(found)
    labels = [member.label for member in members]
    if len({type(label) for label in labels}) > 1:
        raise DataError(f"{paths[0]} and its neighbors hold images with and without .cls labels: separate them")
    classes = sorted(set(labels)) if isinstance(labels[0], str) else []
    position = {name: i for i, name in enumerate(classes)}
    return {
        "shard": np.array(shard, np.int32),
        "offset": np.array([member.offset for member in members], np.int64),
        "size": np.array([member.size for member in members], np.int64),
        "label": np.array([position[label] for label in labels] if classes else labels, np.int64),
        **Strings.pack(member.name for member in members).arrays("names"),
        **Strings.pack(classes).arrays("classes"),
    }


def _read_tar(path: Path) -> list[Member]:
    with open(path, "rb") as file:
        if file.read(6).startswith(COMPRESSED):
            raise DataError(f"{path} is compressed, and images are read from tar files in place: unpack it to a .tar")
        file.seek(0)
        try:
            return list(_members(file, 0, path.stem, str(path)))
        except tarfile.TarError as error:
            raise DataError(f"{path} is damaged or cut short ({error}): fetch it again") from error


def _members(file, base: int, stem: str, where: str, prefix: str = "") -> Iterator[Member]:
    """The images of the tar in `file`, which lies `base` bytes into the shard, and of the tars in it.

    `stem` is the tar's own name, `where` what errors call it, `prefix` what precedes its members' names.
    """
    images, numbers = [], {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for entry in _entries(tar):
            if entry.name.lower().endswith(".tar"):
                yield from _members(
                    tar.extractfile(entry),
                    base + entry.offset_data,
                    PurePosixPath(entry.name).stem,
                    f"{where}:{entry.name}",
                    f"{prefix}{entry.name}/",
                )
            elif entry.name.endswith(".cls"):
                numbers[_pair_key(entry.name)] = _number(tar.extractfile(entry).read(), f"{where}:{entry.name}")
            elif is_image(entry.name):
                images.append(entry)
    for entry in images:
        label = _label(entry.name, numbers, stem, where)
        yield Member(prefix + entry.name, base + entry.offset_data, entry.size, label)


def _entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The regular files, none of them hidden; tarfile takes an archive that ends without its mark for a whole one."""
    while (entry := tar.next()) is not None:
        tar.members = []  # tarfile would keep every header of a million
        if entry.isreg() and not PurePosixPath(entry.name).name.startswith("."):
            entry.name = entry.name.removeprefix("./")
            yield entry
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no mark of the archive's end")


def _label(name: str, numbers: dict[str, int], stem: str, where: str) -> int | str:
    if not numbers:
        return PurePosixPath(name).parent.name or stem
    key = _pair_key(name)
    if key not in numbers:
        raise DataError(f"{where}:{name} has no .cls file beside it, as others have: add {key}.cls or remove it")
    return numbers[key]


def _pair_key(name: str) -> str:
    """WebDataset joins the files of a sample by their path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _number(text: bytes, where: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < MAX_CLASSES:
        raise DataError(f"{where} says {text[:20]!r}, which is no class number: write an integer from 0 up")
    return number
