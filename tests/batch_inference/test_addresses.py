"""Tests listing and reading images in fsspec storage with network errors, against results without errors."""

import io
import tarfile
from itertools import count

import pytest

from resdet.batch_inference.images import list_images
from resdet.errors import DataError, DownloadError
from resdet.files import retry, storage

fsspec = pytest.importorskip("fsspec")
pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
PICTURES = {"a.jpg": b"first", "b.jpg": b"", "deep/er/c.png": b"third", "note.txt": b"no image"}
TAR, PARQUET = ("memory://photos/all.tar", "memory://rows/all.parquet")


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """Writes files to fsspec's in-memory file system and removes the pauses between retries."""
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    files = fsspec.filesystem("memory")
    for name, content in PICTURES.items():
        files.pipe_file(f"/photos/{name}", content)
    files.pipe_file("/photos/all.tar", packed_tar())
    files.pipe_file("/rows/all.parquet", packed_parquet())
    yield files
    for name in [name for name in files.store if name.startswith(("/photos", "/rows"))]:
        del files.store[name]


def packed_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in PICTURES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def packed_parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"name": [*PICTURES], "image": [*PICTURES.values()]}), stream, row_group_size=2)
    return stream.getvalue()


def contents(source: str) -> dict[str, bytes]:
    return {str(address): bytes(address.read().data) for address in list_images([source])}


def fail(monkeypatch, kind: type, method: str, is_faulty) -> None:
    """Makes a method raise a connection error in the calls, counted from 0, for which `is_faulty` is true."""
    call, calls = getattr(kind, method), count()

    def faulty(self, *arguments, **options):
        if is_faulty(next(calls)):
            raise ConnectionResetError("connection reset by peer")
        return call(self, *arguments, **options)

    monkeypatch.setattr(kind, method, faulty)


@pytest.mark.parametrize("method", ["info", "ls", "cat_file"])
def test_temporary_faults_are_retried(memory, monkeypatch, method):
    expected = {source: contents(source) for source in ("memory://photos", PARQUET)}
    assert len(expected["memory://photos"]) == 6 and len(expected[PARQUET]) == 4
    fail(monkeypatch, type(memory), method, lambda number: number % 2 == 0)
    for source, images in expected.items():
        assert contents(source) == images


@pytest.mark.parametrize("method", ["info", "ls"])
def test_persistent_faults_are_errors(memory, monkeypatch, method):
    fail(monkeypatch, type(memory), method, lambda number: True)
    with pytest.raises(DownloadError, match=r"photos.* cannot be downloaded \(connection reset by peer\)"):
        list_images(["memory://photos"])


def test_an_empty_member_of_a_tar_file_is_empty(memory, monkeypatch):
    """Checks that a read of size 0 returns no bytes instead of the whole tar file."""
    read = {str(address): address.read().data for address in list_images([TAR])}
    assert read == {f"{TAR}:{name}": content for name, content in PICTURES.items() if name != "note.txt"}
    assert storage.fetch(TAR, 512, 0) == b"" and storage.fetch(TAR) == packed_tar()


def test_missing_sources_are_errors():
    for source in ("memory://photos/absent", "memory://photos/absent.tar"):
        with pytest.raises(DataError, match="absent.*cannot be read"):
            list_images([source])


def test_large_files_are_read_in_parts(memory, monkeypatch):
    data = bytes(range(256)) * 40
    memory.pipe_file("/photos/large.bin", data)
    monkeypatch.setattr(storage, "CHUNK", 1000)
    monkeypatch.setattr(storage, "BUFFER", 300)
    with storage.open_file("memory://photos/large.bin") as file:
        assert file.read() == data and file.read() == b""
        assert file.seek(-300, io.SEEK_END) == len(data) - 300 and file.read(7) == data[-300:-293]
        file.seek(5)
        assert file.read(3000) == data[5:3005] and file.tell() == 3005
