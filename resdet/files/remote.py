"""Folders of shards at an address: s3://, gs://, https:// and others that fsspec supports.

`local` mirrors the small files of such a folder (the index and the annotations of each split) in the user's cache.
Images are fetched by range requests at their first read, and kept in sparse files of the same layout, up to a size
limit: each image is downloaded once, in any order, and its checksum shows whether it is present.
"""

import functools
import hashlib
import json
import logging
import os
import shutil
import zlib
from pathlib import Path

from resdet.errors import DataError, DownloadError
from resdet.files.atomic import file_errors, make_folder, write_bytes, write_json
from resdet.files.download import cache_dir
from resdet.files.json_file import read_json
from resdet.files.storage import CHUNK, fetch, is_address
from resdet.system import read_at, replace, wait_and_lock

INDEX = "shards.json"  # of a split: see resdet.data.shards
ORIGIN = "origin.json"  # marks the folder of a mirrored split
SPLITS = ("train", "val", "test")
BOUND = "RESDET_REMOTE_CACHE_GB"
DEFAULT_BOUND = 50.0
log = logging.getLogger(__name__)


def local(root: str | Path) -> Path:
    """Returns the folder; for an address, the folder of its mirror, whose images are downloaded when they are read."""
    return _mirror(str(root).rstrip("/")) if is_address(root) else Path(root)


class Origin:
    """The address of a mirrored folder; `kept` are the shards that fit into the cache."""

    def __init__(self, folder: Path, address: str, kept: frozenset[str]):
        self.folder, self.address, self.kept = folder, address, kept

    def read(self, file: str, offset: int, size: int, crc: int | None) -> bytes:
        """Reads a range of a shard, from the cache or else from the address."""
        keeps = file in self.kept and crc is not None
        if keeps:
            data = _read_cached(self.folder / file, offset, size)
            if len(data) == size and zlib.crc32(data) == crc:
                return data
        data = fetch_range(f"{self.address}/{file}", offset, size, crc)
        if keeps:
            _write_cached(self.folder / file, offset, data)
        return data


@functools.lru_cache(1024)
def origin_of(folder: Path) -> Origin | None:
    """Returns the origin of a mirrored folder; None for any other folder."""
    if not (folder / ORIGIN).is_file():
        return None
    content = read_json(folder / ORIGIN)
    return Origin(folder, content["address"], frozenset(content["kept"]))


def source_of(root: Path) -> str:
    """Returns the root of a data set for messages: the address of a mirror, or the path of any other folder."""
    origins = filter(None, (origin_of(root / split) for split in SPLITS))
    return next((origin.address.rpartition("/")[0] for origin in origins), str(root))


def fetch_range(address: str, offset: int, size: int, crc: int | None = None) -> bytes:
    """Fetches part of a shard, with retries; raises a DownloadError on failure or if its CRC-32 differs."""
    try:
        return fetch(address, offset, size, crc)
    except FileNotFoundError:
        raise DownloadError(f"{address} is missing, but its {INDEX} lists it: upload it again.") from None


@functools.lru_cache(64)
def _mirror(address: str) -> Path:
    """Copies the small files of a remote folder into the cache if they have changed."""
    folder = cache_dir() / "remote" / hashlib.sha256(address.encode()).hexdigest()[:16]
    free, has_split = _bound(), False
    make_folder(folder)
    with file_errors(folder), open(folder / ".lock", "w") as lock:
        wait_and_lock(lock)
        for split in SPLITS:
            used = _mirror_split(f"{address}/{split}", folder / split, free)
            has_split |= used is not None
            free -= used or 0
    if not has_split:
        raise DataError(
            f"{address} has no train/{INDEX} or val/{INDEX}: write shards with `resdet data shard SRC DST`, and upload "
            "the folder DST."
        )
    origin_of.cache_clear()
    return folder


def _bound() -> float:
    """Returns the maximum number of bytes of images to keep per data set."""
    text = os.environ.get(BOUND, str(DEFAULT_BOUND))
    try:
        return max(0.0, float(text)) * 1e9
    except ValueError:
        raise DataError(f"{BOUND} is {text!r}: give a number of gigabytes, or 0 to keep no images.") from None


def _mirror_split(address: str, folder: Path, free: float) -> int | None:
    """Mirrors a split; returns the bytes of the shards that are kept, or None if the address has no such split."""
    where = f"{address}/{INDEX}"
    try:
        data = fetch(where)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    try:
        content = json.loads(data)
        shards = [(str(shard["url"]), int(shard["filesize"])) for shard in content["shardlist"]]
        side = content["side"]
        name, size, digest = str(side["url"]), int(side["filesize"]), str(side["sha256"])
        is_safe = all(file == os.path.basename(file) for file in [name, *(file for file, _ in shards)])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{where} is not an index of `resdet data shard` ({error!r}): write the shards again."
        ) from None
    if not is_safe:
        raise DataError(f"{where} names files outside of its folder: write the shards again.")
    index = folder / INDEX
    if not (index.is_file() and index.read_bytes() == data and (folder / name).is_file()):
        log.info("downloading %s (%.1f MB)", f"{address}/{name}", size / 1e6)
        make_folder(folder)
        _download(f"{address}/{name}", folder / name, size, digest)
        write_bytes(index, data)
    kept, used = [], 0
    for file, filesize in shards:
        if used + filesize <= free:
            kept.append(file)
            used += filesize
    write_json(folder / ORIGIN, {"address": address, "kept": kept})
    return used


def _download(address: str, path: Path, size: int, sha256: str) -> None:
    """Downloads a file in parts, to limit the memory."""
    digest = hashlib.sha256()
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        for start in range(0, size, CHUNK):
            data = fetch_range(address, start, min(CHUNK, size - start))
            digest.update(data)
            file.write(data)
    if digest.hexdigest() != sha256:
        part.unlink()
        raise DownloadError(f"{address} differs from the checksum in its {INDEX}: upload both again.")
    replace(part, path)


def _read_cached(path: Path, offset: int, size: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return read_at(file, size, offset)
    except OSError:
        return b""


def _write_cached(path: Path, offset: int, data: bytes) -> None:
    """Writes into the sparse file; ignores a full disk."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "wb", 0) as file:
            file.seek(offset)
            file.write(data)
    except OSError as error:
        log.warning("%s cannot be kept (%s); its images are downloaded each time", path, error.strerror)
