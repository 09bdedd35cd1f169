"""Downloads published files: resumable, verified, and visible only when complete."""

import contextlib
import hashlib
import os
import string
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from resdet.errors import DownloadError, FileError
from resdet.files.atomic import REMEDIES, describe
from resdet.files.retry import retry
from resdet.progress import Activity
from resdet.system import replace, wait_and_lock

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 16
HEADERS = {"User-Agent": "resdet"}


def cache_dir() -> Path:
    """Returns the folder for downloads: RESDET_CACHE, else XDG_CACHE_HOME/resdet, else ~/.cache/resdet."""
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
    """Downloads `url` to `path` unless the file there matches size and checksums, and returns `path`.

    A checksum may be a prefix, if only a prefix is published.

    An interrupted download leaves `path.part`, from which the next one resumes. If several processes download the same
    file, one does and the others wait. Failures raise a DownloadError.
    """
    published = _Published(size, sha256, md5)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        if published.is_at(path):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f".{path.name}.lock")):
            if published.is_at(path):  # downloaded by another process
                return path
            retry(lambda: _transfer(url, part, bool(sha256 or md5), progress), _is_transient)
            _validator(part).unlink(missing_ok=True)
            if difference := published.difference(part):
                part.unlink()
                raise DownloadError(
                    f"{url} is not the published file ({difference}) and was deleted: try again, or download it "
                    f"manually to {path}."
                )
            replace(part, path)
    except (OSError, HTTPException) as problem:
        if getattr(problem, "errno", None) in REMEDIES:
            raise FileError(describe(path, cast(OSError, problem))) from problem
        reason = problem.reason if type(problem) is URLError else problem
        raise DownloadError(f"{url} cannot be downloaded ({reason}): download it manually to {path}.") from problem
    return path


def read(url: str, limit: int) -> bytes:
    """Returns the content of a URL, with retries; raises a ValueError above `limit` bytes."""
    address = _encoded(url)

    def request() -> bytes:
        with urlopen(Request(address, headers=HEADERS), timeout=TIMEOUT) as response:
            content = cast(bytes, response.read(limit + 1))  # also returns if the connection closes early
            declared = response.headers.get("Content-Length", "")
            if declared.isdecimal() and len(content) < min(int(declared), limit + 1):
                raise ConnectionError(f"the connection closed after {len(content)} of {declared} bytes")
            return content

    content = retry(request, _is_transient)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit // 2**20} MB")
    return content


def _encoded(url: str) -> str:
    """Returns a URL with spaces and letters outside ASCII in percent-encoding, as browsers send it."""
    parts = urlsplit(url)
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    return parts._replace(path=path, query=query).geturl()


class _Published(NamedTuple):
    """Size and checksums of a published file; None if unknown."""

    size: int | None
    sha256: str | None
    md5: str | None

    def is_at(self, path: Path) -> bool:
        return path.is_file() and not self.difference(path)

    def difference(self, path: Path) -> str:
        """Describes the difference of the file at `path`; empty if there is none."""
        size = path.stat().st_size
        if self.size not in (None, size):
            return f"expected {self.size} bytes, received {size}"
        for algorithm in ("sha256", "md5"):
            expected = getattr(self, algorithm)
            if expected and not (received := digest(path, algorithm)).startswith(expected):
                return f"expected {algorithm} {expected}, received {received}"
        return ""


def difference(path: Path, sha256: str | None = None, md5: str | None = None) -> str:
    """Describes the difference of the file at `path` from the published one; empty if they are equal."""
    return _Published(None, sha256, md5).difference(path)


def digest(path: Path, algorithm: str) -> str:
    """Returns the checksum of a file in hexadecimal."""
    checksum = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            checksum.update(chunk)
    return checksum.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Never removed: otherwise one process could lock the old file while another locks a new one.
    with open(path, "wb") as file:
        wait_and_lock(file)
        yield


def _is_transient(problem: Exception) -> bool:
    if isinstance(problem, HTTPError):
        return problem.code in (408, 416, 429, 500, 502, 503, 504)
    cause = problem.reason if isinstance(problem, URLError) else problem
    return isinstance(cause, (ConnectionError, TimeoutError, HTTPException))


def _transfer(url: str, part: Path, checked: bool, progress: bool) -> None:
    """Downloads the rest of `part`. `checked`: a checksum follows, so that the part is resumed even without an ETag."""
    validator = _validator(part).read_text("latin1") if _validator(part).is_file() else ""
    have = part.stat().st_size if part.is_file() and (validator or checked) else 0
    request = Request(url, headers=dict(HEADERS))
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
            return  # complete
        part.unlink(missing_ok=True)  # longer than the file: the next attempt starts over
        raise
    with response:
        _receive(response, part, have, progress)


def _receive(response, part: Path, have: int, progress: bool) -> None:
    headers = response.headers
    if not headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        have = 0  # the server ignored the range and sends the whole file
    etag = headers.get("ETag", "")
    strong = "" if etag.startswith("W/") else etag  # weak ETags do not guarantee equal bytes
    _validator(part).write_text(strong, "latin1")
    length = headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    shown = Activity(f"downloading {part.stem}", total, "MB", have) if progress else None
    with open(part, "ab" if have else "wb") as file, shown or contextlib.nullcontext():
        while chunk := response.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            if shown:
                shown.advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise ConnectionError(f"the connection closed after {have} of {total} bytes")


def _validator(part: Path) -> Path:
    """Returns the path of the file with the ETag of a partial download."""
    return part.with_name(part.name + ".etag")
