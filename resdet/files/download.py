"""Files that others publish: fetched once, resumed where the line dropped, verified, and seen only when whole."""

import contextlib
import gzip
import hashlib
import lzma
import os
import shutil
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from resdet.errors import DataError, DownloadError

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 3.0, 9.0)  # seconds before each further try
CHUNK = 1 << 16
# What damaged and encrypted archives, and those of unknown compression, make the standard library raise.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
)


def cache_dir() -> Path:
    """Where what is fetched is kept: RESDET_CACHE, else XDG_CACHE_HOME/resdet, else ~/.cache/resdet."""
    if chosen := os.environ.get("RESDET_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resdet"


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: bool = True,
) -> Path:
    """The file at `path`, downloaded from `url` unless what lies there already is what was published.

    Of a checksum the first digits suffice, where its publisher tells no more.

    A download that was cut off leaves `path.part`, from which the next one goes on. Of several processes that ask at
    once, one downloads and the others wait for it.
    """
    published = _Published(size, sha256, md5)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        if published.is_at(path):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f".{path.name}.lock")):
            if published.is_at(path):  # another process was quicker
                return path
            _download(url, part, checked=bool(sha256 or md5), progress=progress)
            _validator(part).unlink(missing_ok=True)
            if wrong := published.difference(part):
                part.unlink()
                raise DownloadError(
                    f"{url} is not what was published ({wrong}) and was removed: try again, or fetch it by hand and "
                    f"put it at {path}"
                )
            part.replace(path)
    except (OSError, HTTPException) as problem:
        why = problem.reason if type(problem) is URLError else problem
        raise DownloadError(f"{url} could not be fetched ({why}): fetch it by hand and put it at {path}") from problem
    return path


def unpack(archive: Path, folder: Path, members: str | None = None) -> Path:
    """Makes `folder` from a .tar, .tar.gz or .zip: from all of it, or from what it holds under the folder `members`.

    The folder appears when it is complete, so one that exists is left as it is. Nothing is ever written outside.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        return folder
    if not archive.is_file():
        raise DataError(f"{archive} does not exist: fetch it first")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
            whole = Path(temporary, "whole")
            whole.mkdir()
            _extract(archive, whole, members)
            wanted = whole / members if members else whole
            if not wanted.is_dir():
                raise DataError(f"{archive} holds no folder {members}: delete it and fetch the right archive")
            _move(wanted, folder)
    except DAMAGE as problem:
        why = str(problem).partition(":\n")[0]  # tarfile lists on further lines all that it tried
        raise DataError(f"{archive} cannot be unpacked ({why}): delete it and fetch it again") from problem
    except OSError as problem:
        raise DataError(f"{archive} cannot be unpacked into {folder} ({problem}): choose another folder") from problem
    return folder


class _Published(NamedTuple):
    """What its publisher says of a file; None where nothing is said."""

    size: int | None
    sha256: str | None
    md5: str | None

    def is_at(self, path: Path) -> bool:
        return path.is_file() and not self.difference(path)

    def difference(self, path: Path) -> str:
        """What differs at `path`; empty when nothing does."""
        size = path.stat().st_size
        if self.size not in (None, size):
            return f"expected {self.size} bytes, but {size} came"
        for algorithm in ("sha256", "md5"):
            expected = getattr(self, algorithm)
            if expected and not (found := _digest(path, algorithm)).startswith(expected):
                return f"expected {algorithm} {expected}, but what came has {found}"
        return ""


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The file stays: were it removed, one process could lock the old file while another locks a new one.
    import fcntl

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(url: str, part: Path, *, checked: bool, progress: bool) -> None:
    for pause in (*PAUSES, None):
        try:
            return _transfer(url, part, checked, progress)
        except (OSError, HTTPException) as problem:
            if pause is None or not _passing(problem):
                raise
            time.sleep(pause)


def _passing(problem: Exception) -> bool:
    """Whether the trouble may be over in a moment."""
    if isinstance(problem, HTTPError):
        return problem.code in (408, 416, 429, 500, 502, 503, 504)
    if isinstance(problem, URLError):
        problem = problem.reason
    return isinstance(problem, (ConnectionError, TimeoutError, HTTPException))


def _transfer(url: str, part: Path, checked: bool, progress: bool) -> None:
    """Fetches what `part` lacks. `checked`: a checksum will tell whether the pieces belong together."""
    validator = _validator(part).read_text("latin1") if _validator(part).is_file() else ""
    have = part.stat().st_size if part.is_file() and (validator or checked) else 0
    request = Request(url, headers={"User-Agent": "resdet"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    if have and validator:
        request.add_header("If-Range", validator)
    try:
        response = urlopen(request, timeout=TIMEOUT)
    except HTTPError as problem:
        if problem.code != 416:
            raise
        if problem.headers.get("Content-Range") == f"bytes */{have}":
            return  # nothing was missing
        part.unlink(missing_ok=True)  # longer than the file: the next try starts again
        raise
    with response:
        _receive(response, part, have, progress)


def _receive(response, part: Path, have: int, progress: bool) -> None:
    headers = response.headers
    if not headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        have = 0  # the server sends the whole file, whatever was asked
    etag = headers.get("ETag", "")
    known = "" if etag.startswith("W/") else etag  # a weak one does not promise equal bytes
    _validator(part).write_text(known, "latin1")
    length = headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    with open(part, "ab" if have else "wb") as file, _bar(part.stem, have, total, progress) as advance:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise ConnectionError(f"the connection dropped after {have} of {total} bytes")


def _validator(part: Path) -> Path:
    """The file that keeps the ETag of a partial download."""
    return part.with_name(part.name + ".etag")


@contextlib.contextmanager
def _bar(name: str, have: int, total: int | None, shown: bool) -> Iterator:
    """Yields the function to tell of each further count of bytes."""
    if not (shown and sys.stderr.isatty()):
        yield lambda count: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=have)
        yield lambda count: bar.advance(task, count)


def _extract(archive: Path, folder: Path, members: str | None) -> None:
    def wanted(name: str) -> bool:
        return members is None or PurePosixPath(name).is_relative_to(members)

    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:  # drops roots and '..' by itself, and makes no links
            zipped.extractall(folder, [name for name in zipped.namelist() if wanted(name)])
        return
    with tarfile.open(archive) as tar:
        for item in tar:
            if wanted(item.name):
                _extract_item(tar, item, folder)
        while tar.fileobj.read(CHUNK):  # gzip compares its checksum when it comes to the end
            pass


def _extract_item(tar: tarfile.TarFile, item: tarfile.TarInfo, folder: Path) -> None:
    """By hand, since the filters of `tarfile` are not in every Python 3.10 and 3.11."""
    name = PurePosixPath(item.name.lstrip("/"))
    if ".." in name.parts:
        raise tarfile.TarError(f"{item.name} leads out of it")
    if not (item.isfile() or item.isdir()):  # data needs no links, and `folder` is about to be moved
        raise tarfile.TarError(f"{item.name} is neither a file nor a folder")
    path = folder / name
    if item.isdir():
        return path.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(item) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)


def _move(source: Path, folder: Path) -> None:
    try:
        source.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker, and its copy is as good
            raise
