"""Images read in place from tar files: ImageNet's official archives, one tar per class, or WebDataset shards.

The members are indexed once (name, shard, offset, size, label); reading an image is then one read, in any order and
from any worker, without unpacking.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

import numpy as np

from resdet.data.array_cache import Arrays, Strings, cached
from resdet.errors import DataError
from resdet.files.remote import origin_of
from resdet.files.tar_member import Place, read_place
from resdet.images.decode import EncodedImage
from resdet.images.image_files import is_image

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
MAX_CLASSES = 2**20
LABELS = (".cls", ".json")  # suffixes of WebDataset's labels
KEYS = ("label", "cls", "class", "class_id")  # of the label in a .json file


class LabeledImage(NamedTuple):
    """An image in a tar file: `offset` of its bytes; the label is a number (from .cls or .json) or a class name."""

    name: str
    offset: int
    size: int
    label: int | str


class TarImages:
    """The images in uncompressed tar files, sorted by name within each file.

    The label of a member is the first of these that exists: the number or name in its WebDataset pair (`0001.jpg`, and
    `0001.cls` or `0001.json` with one of `KEYS`); its folder (`n01440764/x.JPEG`); the name of its tar file
    (`n01440764.tar`), which may be a member of another tar, as in ILSVRC2012_img_train.tar. `classes` defaults to the
    sorted class names or, with numbers, to the numbers from 0 to the largest. The index is cached in `cache_dir`, by
    default next to the first file.
    """

    def __init__(
        self, paths: Sequence[Path | str], classes: Sequence[str] | None = None, cache_dir: Path | None = None
    ):
        self.paths = [Path(path) for path in paths]
        self._set(cached("tars", self.paths, lambda: _build(self.paths), cache_dir), classes)

    @classmethod
    def of_index(cls, paths: Sequence[Path | str], index: Arrays, classes: Sequence[str]) -> "TarImages":
        """Opens the images at the places in an index, in its order, without reading the tar files."""
        images = cls.__new__(cls)
        images.paths = [Path(path) for path in paths]
        images._set(index, classes)
        return images

    def _set(self, index: Arrays, classes: Sequence[str] | None) -> None:
        self._index = index
        self.names = Strings.from_arrays(index, "names")
        names = list(Strings.from_arrays(index, "classes"))
        numbered = not names
        if classes is None:
            classes = [str(i) for i in range(index["label"].max() + 1)] if numbered else names
        self.classes = list(classes)
        self.labels = np.array(index["label"]) if numbered else self._relabel(index["label"], names)
        self._check_range()

    def __len__(self) -> int:
        return len(self.names)

    def name(self, i: int) -> str:
        return f"{self.paths[self._index['shard'][i]]}:{self.names[i]}"

    def image(self, i: int) -> EncodedImage:
        offset, size = int(self._index["offset"][i]), int(self._index["size"][i])
        crc = int(self._index["crc"][i]) if "crc" in self._index else None
        place = Place(offset, size, crc)
        return EncodedImage(read_place(self.paths[self._index["shard"][i]], place, self.name(i)), self.name(i))

    def header_size(self, i: int) -> tuple[int, int]:
        """Returns (width, height) from the header; for a remote image, as recorded when the shards were written."""
        if "width" in self._index and origin_of(self.paths[0].parent):
            return int(self._index["width"][i]), int(self._index["height"][i])
        return self.image(i).size

    def _relabel(self, labels: np.ndarray, names: list[str]) -> np.ndarray:
        position = {name: i for i, name in enumerate(self.classes)}
        for label, name in enumerate(names):
            if name not in position:
                member = self.name(int(np.argmax(labels == label)))
                raise DataError(f"{member} has class {name}, not one of the {len(position)} classes: remove it.")
        return np.array([position[name] for name in names], np.int64)[labels]

    def _check_range(self) -> None:
        wrong = self.labels >= len(self.classes)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise DataError(
                f"{self.name(i)} has the label {self.labels[i]}, but there are {len(self.classes)} "
                "classes: correct its label or give all class names."
            )


def _build(paths: list[Path]) -> Arrays:
    """Builds the index of all shards; labels of named classes are positions in the sorted names."""
    members: list[LabeledImage] = []
    shard: list[int] = []
    for number, path in enumerate(paths):
        images = sorted(_read_tar(path))
        if not images:
            raise DataError(f"{path} holds no images: remove it from the folder, or check that it is the right file.")
        members += images
        shard += [number] * len(images)
    labels = [member.label for member in members]
    if len({type(label) for label in labels}) > 1:
        raise DataError(f"{paths[0]} and its neighbors hold images with and without .cls labels: separate them.")
    classes = sorted({label for label in labels if isinstance(label, str)})
    position: dict[int | str, int] = {name: i for i, name in enumerate(classes)}
    return {
        "shard": np.array(shard, np.int32),
        "offset": np.array([member.offset for member in members], np.int64),
        "size": np.array([member.size for member in members], np.int64),
        "label": np.array([position[label] for label in labels] if classes else labels, np.int64),
        **Strings.pack(member.name for member in members).arrays("names"),
        **Strings.pack(classes).arrays("classes"),
    }


def _read_tar(path: Path) -> list[LabeledImage]:
    with open_tar(path) as file, damage_named(path):
        return list(_members(file, 0, path.stem, str(path)))


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise DataError(f"{path} is damaged or truncated ({error}): download it again.") from error


def open_tar(path: Path) -> IO[bytes]:
    """Opens a tar file, which must not be compressed."""
    file = open(path, "rb")
    if file.read(6).startswith(COMPRESSED):
        file.close()
        raise DataError(f"{path} is compressed, but images are read from tar files in place: unpack it to a .tar.")
    file.seek(0)
    return file


def samples_in(path: Path) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """Yields the images of a WebDataset shard, each with the content of its .json file, or None without one."""
    images: list[tarfile.TarInfo] = []
    contents: dict[str, Any] = {}
    with open_tar(path) as file, damage_named(path), tarfile.open(fileobj=file, mode="r:") as tar:
        for entry in entries(tar):
            if entry.name.endswith(".json"):
                contents[pair_key(entry.name)] = _json_in(tar, entry, str(path))
            elif is_image(entry.name):
                images.append(entry)
    for entry in images:
        yield entry, contents.get(pair_key(entry.name))


def _members(file: IO[bytes] | None, base: int, stem: str, where: str, prefix: str = "") -> Iterator[LabeledImage]:
    """Yields the images of the tar in `file`, which starts `base` bytes into the shard, and of tars inside it.

    `stem` is the tar's name, `where` its name in errors, `prefix` the prefix of its members' names.
    """
    images: list[tarfile.TarInfo] = []
    labels: dict[str, int | str] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for entry in entries(tar):
            if entry.name.lower().endswith(".tar"):
                yield from _members(
                    tar.extractfile(entry),
                    base + entry.offset_data,
                    PurePosixPath(entry.name).stem,
                    f"{where}:{entry.name}",
                    f"{prefix}{entry.name}/",
                )
            elif entry.name.endswith(LABELS):
                label = _written_label(tar, entry, where)
                if label is not None and (entry.name.endswith(".cls") or pair_key(entry.name) not in labels):
                    labels[pair_key(entry.name)] = label
            elif is_image(entry.name):
                images.append(entry)
    for entry in images:
        label = _label(entry.name, labels, stem, where)
        yield LabeledImage(prefix + entry.name, base + entry.offset_data, entry.size, label)


def _written_label(tar: tarfile.TarFile, entry: tarfile.TarInfo, where: str) -> int | str | None:
    """Returns the label in a .cls or .json file; None for JSON without a label."""
    if entry.name.endswith(".cls"):
        text = cast(IO[bytes], tar.extractfile(entry)).read()  # a regular file
        return _number(text, f"{where}:{entry.name}")
    content = _json_in(tar, entry, where)
    label = next((content[key] for key in KEYS if key in content), None) if isinstance(content, dict) else content
    if type(label) is int:
        return _number(str(label).encode(), f"{where}:{entry.name}")
    return label if isinstance(label, str) and label else None


def _json_in(tar: tarfile.TarFile, entry: tarfile.TarInfo, where: str) -> Any:
    try:
        return json.loads(cast(IO[bytes], tar.extractfile(entry)).read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}:{entry.name} is not valid JSON ({error}): write it again.") from error


def entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yields the regular files except hidden ones; checks the end marker, which tarfile does not require."""
    while (entry := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # not in the stubs; tarfile would keep a million headers
        if entry.isreg() and not PurePosixPath(entry.name).name.startswith("."):
            entry.name = entry.name.removeprefix("./")
            yield entry
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end-of-archive marker")


def _label(name: str, labels: dict[str, int | str], stem: str, where: str) -> int | str:
    if not labels:
        return PurePosixPath(name).parent.name or stem
    key = pair_key(name)
    if key not in labels:
        raise DataError(f"{where}:{name} has no .cls file, but others have one: add {key}.cls or remove it.")
    return labels[key]


def pair_key(name: str) -> str:
    """Returns WebDataset's key of a sample: the path up to the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _number(text: bytes, where: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < MAX_CLASSES:
        raise DataError(f"{where}: {text[:20]!r} is not a class number; write an integer of at least 0.")
    return number
