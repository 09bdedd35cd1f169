"""Reads files at addresses that fsspec supports, such as s3:// and https://; requests have a timeout and retries."""

import functools
import io
import os
import queue
import threading
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from resdet.errors import DataError, DownloadError, Error
from resdet.files.retry import retry

TIMEOUT = 60.0  # seconds per request
FOLDER_TIMEOUT = 600.0  # seconds for listing a folder, which may have a million files
CHUNK = 2**24  # bytes per request for part of a large file
BUFFER = 2**22  # bytes of read-ahead in an open file
FINAL = (Error, ImportError, PermissionError, NotADirectoryError, IsADirectoryError)  # not worth a retry
T = TypeVar("T")


def is_address(root: str | Path) -> bool:
    return "://" in str(root)


def fetch(address: str, offset: int = 0, size: int | None = None, crc: int | None = None) -> bytes:
    """Fetches a remote file, or `size` bytes from `offset`, with retries; raises a DownloadError if the storage fails,
    and FileNotFoundError if the file is missing."""
    if size == 0:
        return b""

    def read() -> bytes:
        span = {} if size is None else {"start": offset, "end": offset + size}
        data = bytes(_file_system(address).cat_file(address, **span))
        if size is not None and len(data) != size:
            raise ValueError(f"{len(data)} bytes came instead of {size}: is it truncated, or without range requests?")
        if crc is not None and zlib.crc32(data) != crc:
            raise ValueError("its checksum differs from the index")
        return data

    return _retried(address if size is None else f"bytes {offset} to {offset + size} of {address}", read)


def find(address: str) -> list[str]:
    """Returns the addresses of all files below an address, or the address itself if it is a file; with retries, as
    `fetch`.

    Lists folder by folder, since fsspec's `find` silently omits folders that it cannot list.
    """
    files = _retried(address, lambda: _file_system(address))
    if _retried(address, lambda: files.info(address))["type"] == "file":
        return [address]
    addresses: list[str] = []
    folders, seen = [address], set()
    while folders:
        folder = folders.pop()
        entries = _retried(f"the list of {folder}", partial(files.ls, folder, detail=True), FOLDER_TIMEOUT)
        for name, kind in ((entry["name"], entry["type"]) for entry in entries):
            if name not in seen and kind == "directory":
                folders.append(name)
            elif name not in seen:
                addresses.append(files.unstrip_protocol(name))
            seen.add(name)  # some kinds of storage list a folder in itself
    return addresses


def open_file(address: str) -> IO[bytes]:
    """Opens a remote file and reads it in ranges, with retries; reads it as a whole if its size is unknown."""
    files = _retried(address, lambda: _file_system(address))
    size = _retried(f"the size of {address}", lambda: files.size(address))
    if size is None:
        return io.BytesIO(fetch(address))
    return cast(IO[bytes], io.BufferedReader(_Ranges(address, size), BUFFER))


class _Ranges(io.RawIOBase):
    """A remote file of `size` bytes; each read is a request."""

    def __init__(self, address: str, size: int):
        self.address, self.size, self.position = address, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), CHUNK, self.size - self.position))
        buffer[:size] = fetch(self.address, self.position, size)
        self.position += size
        return size


def _retried(what: str, read: Callable[[], T], seconds: float | None = None) -> T:
    """Returns the result of `read`, with retries; raises FileNotFoundError and resdet's errors immediately."""
    try:
        return retry(lambda: _within(seconds or TIMEOUT, read), _is_transient)
    except ImportError as error:
        packages = "'resdet[remote]' and the package of the storage, such as s3fs or gcsfs"
        raise DataError(f"{what} cannot be read ({error}): pip install {packages}.") from error
    except Exception as error:  # each kind of storage raises different errors
        if isinstance(error, Error) or _is_missing(error):
            raise
        reason = str(error) or type(error).__name__
        raise DownloadError(
            f"{what} cannot be downloaded ({reason}): check the address, access and network, and try again."
        ) from error


def _is_transient(error: Exception) -> bool:
    return not isinstance(error, FINAL) and not _is_missing(error)


def _is_missing(error: Exception) -> bool:
    """Whether the file is missing; for HTTP servers, fsspec raises FileNotFoundError for any error."""
    cause = error.__cause__
    faulty = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return isinstance(error, FileNotFoundError) and not faulty and getattr(cause, "status", 404) == 404


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Runs `call` in a thread, since some storage has no timeout; raises a TimeoutError after `seconds`."""
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:g} seconds") from None
    if error:
        raise error
    return result


def _file_system(address: str) -> Any:
    try:
        return _open_file_system(address.partition("://")[0], os.getpid())
    except ValueError as error:
        raise DataError(f"{address} cannot be read ({error}): check the address.") from error


@functools.lru_cache(8)
def _open_file_system(protocol: str, process: int) -> Any:
    """Opens the file system; each process opens a separate one, since connections do not survive a fork."""
    try:
        import fsspec
    except ImportError:
        raise ImportError("fsspec is not installed") from None
    return fsspec.filesystem(protocol, skip_instance_cache=protocol != "memory")
