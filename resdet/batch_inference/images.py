"""Lists of images: files, folders, tar files, Parquet files with encoded images, and fsspec URLs."""

import tarfile
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np

from resdet.errors import ConfigError, DataError
from resdet.files import storage
from resdet.files.storage import is_address
from resdet.files.tar_member import Place, read_place
from resdet.images.decode import EncodedImage, RawImage, read_image
from resdet.images.image_files import is_image, walk
from resdet.images.inputs import expanded
from resdet.images.video import is_video
from resdet.optional import required

TAR, PARQUET = ".tar", ".parquet"
ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
NAMES = ("image", "path", "image_path", "file_name", "filename", "name", "id", "image_id", "__key__")  # name columns
ONE_AT_A_TIME = threading.Lock()


class Readable(Protocol):
    """An image that is read on demand; `str()` returns its name."""

    def read(self) -> EncodedImage | RawImage: ...


class InMemory(NamedTuple):
    """An encoded image, or its uint8 RGB pixels [H, W, 3]."""

    name: str
    content: bytes | np.ndarray

    def __str__(self) -> str:
        return self.name

    def read(self) -> EncodedImage | RawImage:
        if isinstance(self.content, bytes):
            return EncodedImage(self.content, self.name)
        return RawImage(np.asarray(self.content), self.name)


class Address(NamedTuple):
    """The location of an image: a file, or a part of one. Addresses sort by file, then by place."""

    path: str  # path or URL of the file
    place: int = 0  # offset of the first byte in a tar file, or row in a Parquet file
    size: int = 0  # number of bytes in a tar file
    member: str = ""  # name inside the file

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else self.path

    def read(self) -> EncodedImage:
        """Reads the encoded image; raises a DataError if that fails, or a DownloadError if remote storage does."""
        suffix = suffix_of(self.path)
        if suffix == PARQUET:
            return EncodedImage(read_row(self.path, self.place), str(self))
        if suffix == TAR or is_address(self.path):
            with reading(self.path):
                data = read_range(self.path, self.place, self.size) if suffix == TAR else storage.fetch(self.path)
                return EncodedImage(data, str(self))
        return read_image(self.path, "restore it")


def list_images(sources: Sequence[str]) -> list[Address]:
    """Returns the images in files, folders, globs and URLs, sorted and without duplicates."""
    found = expanded(sources)
    addresses = sorted({address for source in found for path in files_of(source) for address in addresses_of(path)})
    if not addresses:
        raise DataError(f"{', '.join(sources)}: no image there; give other images, folders, .tar or .parquet files.")
    return addresses


def files_of(source: str) -> Iterator[str]:
    """Yields the file itself, or the images and tar files at any depth below a folder; accepts paths and URLs."""
    if is_address(source):
        with reading(source):
            below = storage.find(source)
        yield from (name for name in below if name == source or is_wanted(name))
    elif Path(source).is_dir():
        yield from (str(Path(source, name)) for name in walk(source) if is_wanted(name))
    elif is_archive(source):
        raise DataError(f"{source} is compressed: unpack it to a folder or to a .tar file.")
    elif is_video(source):
        raise ConfigError(f"{source} is a video or a camera, which --parquet has no rows for: use --json.")
    else:
        yield source


def is_wanted(path: str) -> bool:
    """Whether a path in a folder or a tar file names an image or a tar file that is not hidden."""
    name = path.rpartition("/")[2]
    return not name.startswith(".") and (is_image(name) or suffix_of(name) == TAR)


def suffix_of(path: str) -> str:
    return Path(path).suffix.lower()


def is_set(name: str) -> bool:
    """Whether a name is a file with many images, or any URL."""
    return suffix_of(name) in (TAR, PARQUET) or is_archive(name) or is_address(name)


def is_archive(name: str) -> bool:
    """Whether a name is a compressed archive, whose members cannot be read in place."""
    return name.lower().endswith(ARCHIVES)


def addresses_of(path: str) -> Iterator[Address]:
    """Yields the images in a file."""
    suffix = suffix_of(path)
    if suffix == TAR:
        yield from tar_members(path)
    elif suffix == PARQUET:
        yield from parquet_rows(path)
    else:
        yield Address(path)


def tar_members(path: str) -> Iterator[Address]:
    with reading(path), open_file(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.isfile() and is_wanted(member.name) and is_image(member.name):
                yield Address(path, member.offset_data, member.size, member.name)


def parquet_rows(path: str) -> Iterator[Address]:
    pq = required("pyarrow.parquet", "pyarrow", path)
    with reading(path), open_file(path) as file, pq.ParquetFile(file) as table:
        images_column(table, path)
        named = [name for name in NAMES if name in table.schema_arrow.names]
        named = [name for name in named if not is_bytes(table.schema_arrow.field(name).type)]
        rows = range(table.metadata.num_rows)
        names = table.read(named[:1]).column(0).to_pylist() if named else rows
        yield from (Address(path, row, member=str(name)) for row, name in zip(rows, names))


def images_column(table: Any, path: str) -> str:
    """Returns the column of encoded images: the first of bytes, or of structs with `bytes` as in Hugging Face files."""
    for field in table.schema_arrow:
        if is_bytes(field.type):
            return str(field.name)
    raise DataError(f"{path} has no column of bytes: give a Parquet file with encoded images.")


def is_bytes(kind: Any) -> bool:
    types = required("pyarrow.types", "pyarrow", "Parquet")
    if types.is_struct(kind):
        return any(kind.field(k).name == "bytes" for k in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def read_row(path: str, row: int) -> bytes:
    """Reads the encoded image in a row of a Parquet file."""
    with ONE_AT_A_TIME, reading(path):  # prefetching threads share a row group
        starts = group_starts(path)
        group = bisect_right(starts, row) - 1
        value = read_group(path, group)[row - starts[group]].as_py()
    return (value["bytes"] if isinstance(value, dict) else value) or b""


@lru_cache(64)
def group_starts(path: str) -> list[int]:
    pq = required("pyarrow.parquet", "pyarrow", path)
    with open_file(path) as file, pq.ParquetFile(file) as table:
        counts = [table.metadata.row_group(k).num_rows for k in range(table.metadata.num_row_groups)]
    return [0, *accumulate(counts)][:-1]


@lru_cache(2)
def read_group(path: str, group: int) -> Any:
    """Reads the encoded images of a row group."""
    pq = required("pyarrow.parquet", "pyarrow", path)
    with open_file(path) as file, pq.ParquetFile(file) as table:
        return table.read_row_group(group, [images_column(table, path)]).column(0)


def read_range(path: str, place: int, size: int) -> bytes:
    if is_address(path):
        return storage.fetch(path, place, size)
    return read_place(path, Place(place, size), path)


def open_file(path: str) -> IO[bytes]:
    return storage.open_file(path) if is_address(path) else open(path, "rb")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns file system errors into a DataError about `path`."""
    try:
        yield
    except (OSError, ValueError, tarfile.TarError, ImportError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read ({reason}): check the address, or restore the file.") from error
