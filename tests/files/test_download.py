"""Checks downloads from a local server, with and without faults."""

import hashlib
import io
import random
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from loopback import serving

from resdet.errors import DownloadError, FileError
from resdet.files import download, retry

PAYLOAD = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
MD5 = hashlib.md5(PAYLOAD).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(self)
        server.released.wait(10)
        if server.refusals:
            return self.send_error(server.refusals.pop(0))
        start, total = self.start(), len(server.payload)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.send_body(server.payload[start:])

    def start(self) -> int:
        wanted = self.headers.get("Range") if self.server.ranges else None
        if wanted is None or self.headers.get("If-Range", self.server.etag) != self.server.etag:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def send_body(self, body: bytes):
        if not self.server.drops:
            return self.wfile.write(body)
        self.server.drops -= 1
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        if self.server.stalls:
            self.server.stalled.wait(10)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.payload, self.etag, self.ranges = PAYLOAD, '"first"', True
        self.drops, self.stalls, self.refusals = 0, False, []
        self.requests = []
        self.released, self.stalled = threading.Event(), threading.Event()
        self.released.set()
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"

    def asked(self, header: str) -> list[str | None]:
        return [request.headers.get(header) for request in self.requests]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    with serving(server):
        yield server
        server.released.set()
        server.stalled.set()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file.bin"


def remains(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if not file.name.endswith(".lock"))


@pytest.mark.parametrize("checks", [{}, {"sha256": SHA256}, {"md5": MD5, "size": len(PAYLOAD)}])
def test_downloads_once(server, path, checks):
    assert download.fetch(server.url, path, **checks) == path
    assert path.read_bytes() == PAYLOAD and remains(path) == ["file.bin"]
    download.fetch(server.url, path, **checks)
    assert len(server.requests) == 1


def test_a_file_with_another_checksum_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(b"half of it")
    download.fetch(server.url, path, sha256=SHA256)
    assert path.read_bytes() == PAYLOAD


def test_resumes_after_a_dropped_connection(server, path):
    server.drops = 1
    download.fetch(server.url, path, sha256=SHA256)
    assert path.read_bytes() == PAYLOAD
    assert server.asked("Range") == [None, "bytes=150000-"] and server.asked("If-Range") == [None, '"first"']


def test_read_retries_after_a_dropped_connection(server):
    server.drops = 1
    assert download.read(server.url, len(PAYLOAD)) == PAYLOAD and len(server.requests) == 2


def test_read_encodes_spaces_and_letters_outside_ascii(server):
    download.read(f"{server.url}/a b%20ü[1].jpg?x=é y&z=%2F#ö", len(PAYLOAD))
    (request,) = server.requests
    assert request.path == "/file.bin/a%20b%20%C3%BC[1].jpg?x=%C3%A9%20y&z=%2F"


def test_resumes_in_a_later_run(server, path):
    server.drops = 3
    with pytest.raises(DownloadError, match="closed after 262500 of 300000 bytes"):
        download.fetch(server.url, path)
    assert not path.exists()
    download.fetch(server.url, path)
    assert path.read_bytes() == PAYLOAD and server.asked("Range")[-1] == "bytes=262500-"


def test_restarts_without_range_requests(server, path):
    server.ranges, server.drops = False, 1
    download.fetch(server.url, path, sha256=SHA256)
    assert path.read_bytes() == PAYLOAD and len(server.requests) == 2


def test_restarts_when_the_file_has_changed(server, path):
    server.drops = 3
    with pytest.raises(DownloadError):
        download.fetch(server.url, path)
    server.payload, server.etag = PAYLOAD[::-1], '"second"'
    download.fetch(server.url, path)
    assert path.read_bytes() == PAYLOAD[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"first"'])
def test_restarts_without_etag_and_checksum(server, path, etag):
    """Restarts the download: without ETag and checksum, the parts may belong to different files; files of equal meaning
    have the same weak ETag."""
    server.etag, server.drops = etag, 1
    download.fetch(server.url, path)
    assert path.read_bytes() == PAYLOAD and server.asked("Range") == [None, None]


def test_resumes_with_a_checksum_only(server, path):
    server.etag, server.drops = None, 1
    download.fetch(server.url, path, md5=MD5)
    assert path.read_bytes() == PAYLOAD and server.asked("Range") == [None, "bytes=150000-"]


@pytest.mark.parametrize("part", [PAYLOAD, PAYLOAD + b"more"], ids=["whole", "too long"])
def test_a_complete_or_too_long_partial_file(server, path, part):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(part)
    download.fetch(server.url, path, sha256=SHA256)
    assert path.read_bytes() == PAYLOAD and remains(path) == ["file.bin"]


def test_a_busy_server_is_retried(server, path):
    server.refusals = [503, 429]
    download.fetch(server.url, path)
    assert path.read_bytes() == PAYLOAD and len(server.requests) == 3


def test_a_stalled_connection_is_retried(server, path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.drops, server.stalls = 1, True
    download.fetch(server.url, path)
    assert path.read_bytes() == PAYLOAD and len(server.requests) == 2


@pytest.mark.parametrize(
    "checks, expected",
    [
        ({"sha256": "0" * 64}, f"{'0' * 64}.*{SHA256}"),
        ({"md5": "0" * 32}, MD5),
        ({"size": 7}, "7 bytes, received 300000"),
    ],
)
def test_a_file_with_a_wrong_checksum_or_size_is_removed(server, path, checks, expected):
    with pytest.raises(DownloadError, match=expected):
        download.fetch(server.url, path, **checks)
    assert remains(path) == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_only(server, path, monkeypatch, capsys):
    download.fetch(server.url, path)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    download.fetch(server.url, path.with_name("silent.bin"), progress=False)
    assert sys.stderr.getvalue() == ""
    download.fetch(server.url, path.with_name("shown.bin"))
    assert "downloading shown.bin" in sys.stderr.getvalue() and "of 0.3 MB" in sys.stderr.getvalue()


def test_not_found_names_url_and_path(server, path):
    server.refusals = [404]
    with pytest.raises(DownloadError, match="404") as caught:
        download.fetch(server.url, path)
    assert server.url in str(caught.value) and str(path) in str(caught.value) and len(server.requests) == 1


def test_an_unknown_host_is_an_error(server, path):
    with pytest.raises(DownloadError, match=f"http://nowhere.invalid/a .*manually to {path}"):
        download.fetch("http://nowhere.invalid/a", path)


def test_a_refused_connection_is_an_error(server, path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="refused"):
        download.fetch(server.url, path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_an_error(server, path):
    path.parent.mkdir()
    path.with_name("file.bin.part").symlink_to("/dev/full")
    with pytest.raises(FileError) as caught:
        download.fetch(server.url, path)
    assert str(caught.value) == f"{path} cannot be written (No space left on device): free some space."


def test_uses_the_proxy(server, path, monkeypatch):
    monkeypatch.setattr(urllib.request, "_opener", None)  # the current opener has already read the environment
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/file.bin"))
    download.fetch("http://far.away.invalid/x", path)
    assert path.read_bytes() == PAYLOAD and server.requests[0].path == "http://far.away.invalid/x"


def test_two_processes_download_once(server, path):
    program = "import sys; from resdet.files import download; print(1, flush=True); download.fetch(*sys.argv[1:])"
    command = [sys.executable, "-c", program, server.url, str(path)]
    server.released.clear()
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        process.stdout.readline()  # the process is about to send the request
    threading.Timer(0.3, server.released.set).start()
    for process in processes:
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert path.read_bytes() == PAYLOAD and len(server.requests) == 1


def test_cache_dir(monkeypatch):
    monkeypatch.delenv("RESDET_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert download.cache_dir() == Path("/home/someone/.cache/resdet")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert download.cache_dir() == Path("/caches/resdet")
    monkeypatch.setenv("RESDET_CACHE", "/elsewhere")
    assert download.cache_dir() == Path("/elsewhere")


def test_an_invalid_content_length_is_ignored(tmp_path):
    """Reads until the connection closes if Content-Length is not a number."""

    class Response(io.BytesIO):
        headers = {"Content-Length": "many", "ETag": "é"}

    download._receive(Response(b"abc"), tmp_path / "a.part", 0, False)
    assert (tmp_path / "a.part").read_bytes() == b"abc"
