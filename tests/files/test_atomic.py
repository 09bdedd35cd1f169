"""Checks that files are written completely or not at all, and that disk errors become one-line errors."""

import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import disks
import numpy as np
import pytest
import torch

import resdet
from resdet.errors import FileError
from resdet.files import atomic
from resdet.images import encode

PACKAGE = Path(resdet.__file__).parent
LARGE = 1 << 20


WRITERS = {
    "bytes": lambda path: atomic.write_bytes(path, bytes(LARGE)),
    "text": lambda path: atomic.write_text(path, "ä" * LARGE),
    "json": lambda path: atomic.write_json(path, list(range(LARGE // 4))),
    "image": lambda path: encode.write_image(path, np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)),
    "tensor": lambda path: atomic.write_torch(path, torch.zeros(LARGE)),
    "tensors": lambda path: atomic.write_torch(path, [row.clone() for row in torch.eye(200)]),
}


def test_json_has_no_nan(tmp_path):
    """Writes NaN and infinity as null, since RFC 8259 has neither."""
    content = {"AP": float("nan"), "rows": [1.5, float("inf"), {"a": (-float("inf"), True, None)}]}
    atomic.write_json(tmp_path / "a.json", content)
    refuse = lambda name: pytest.fail(f"{name} is no JSON")
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert found == {"AP": None, "rows": [1.5, None, {"a": [None, True, None]}]}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("size", [0, 100, 70000])
def test_a_failed_write_keeps_the_old_file(kind, size, tmp_path):
    path = tmp_path / "new/a.png"
    with disks.limited(size), pytest.raises(FileError) as refused:
        WRITERS[kind](path)
    assert str(refused.value) == (
        f"{path} cannot be written (File too large): raise the limit on the size of files (ulimit -f)."
    )
    assert list(path.parent.iterdir()) == []
    path.write_text("former")
    with disks.limited(size), pytest.raises(FileError, match=r"\(File too large\); the old file is kept: raise"):
        WRITERS[kind](path)
    assert list(path.parent.iterdir()) == [path] and path.read_text() == "former"
    WRITERS[kind](path)
    assert list(path.parent.iterdir()) == [path] and path.stat().st_size > 80000


def test_a_full_disk_is_an_error(tmp_path):
    with disks.tmpfs(tmp_path / "disk", 400) as folder:
        for left in (0, 8, 100):
            disks.fill(folder, left)
            for write in WRITERS.values():
                with pytest.raises(FileError, match=r"a.png cannot be written \(No space left on device\): free some"):
                    write(folder / "a.png")
            assert {path.name for path in folder.iterdir()} == {"rest"}
        disks.fill(folder)
        for check in (atomic.check_folder, atomic.check_file):
            with pytest.raises(FileError, match="No space left"):
                check(folder / "a")


def test_a_read_only_disk_is_an_error(tmp_path):
    with disks.tmpfs(tmp_path / "disk", 400) as folder:
        (folder / "a.png").write_text("former")
        disks.make_read_only(folder)
        reason = r"a.png cannot be written \(Read-only file system\); the old file is kept: choose a folder with"
        for write in WRITERS.values():
            with pytest.raises(FileError, match=reason):
                write(folder / "a.png")
        with pytest.raises(FileError, match=reason):
            atomic.append_bytes(folder / "a.png", b"x")
        for act in (atomic.check_folder, atomic.make_folder):
            with pytest.raises(FileError, match="Read-only"):
                act(folder / "a/b")
        with pytest.raises(FileError, match="read-only"):
            atomic.check_file(folder / "a.png")


@pytest.mark.parametrize("folder", ["file", "file/a/b", "link"])
def test_a_file_in_place_of_a_folder_is_an_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    blocked = (
        f"{tmp_path / folder}: cannot create the folder ({tmp_path / folder.split('/')[0]} is not a folder): choose"
    )
    for act in (atomic.make_folder, atomic.check_folder):
        with pytest.raises(FileError, match=re.escape(blocked)):
            act(tmp_path / folder)
    for act in (atomic.check_file, WRITERS["text"]):
        with pytest.raises(FileError, match=re.escape(blocked)):
            act(tmp_path / folder / "a.json")
    with pytest.raises(FileError, match="is a folder: give the path of a file"):
        atomic.check_file(tmp_path)
    with pytest.raises(FileError, match="Is a directory"):
        atomic.write_bytes(tmp_path, b"")


def test_checks_leave_no_files(tmp_path):
    atomic.check_folder(tmp_path / "a/b")
    atomic.check_file(tmp_path / "a/b.json")
    assert not list(tmp_path.iterdir())


def test_lines_are_appended_completely_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    atomic.append_bytes(path, b"first\n")
    with disks.limited(10), pytest.raises(FileError, match="the old file is kept"):
        atomic.append_bytes(path, b"second\n")
    assert path.read_bytes() == b"first\n"
    atomic.append_bytes(path, b"second\n")
    assert path.read_bytes() == b"first\nsecond\n"


def test_a_failing_check_keeps_the_old_file(tmp_path):
    def refuse(temporary):
        assert temporary.read_bytes() == b"new"
        raise ZeroDivisionError

    path = tmp_path / "a"
    path.write_text("former")
    with pytest.raises(ZeroDivisionError):
        atomic.write_bytes(path, b"new", refuse)
    assert path.read_text() == "former" and list(tmp_path.iterdir()) == [path]


def test_errors_of_a_check_are_not_converted(tmp_path):
    """Expects BrokenPipeError instead of FileError from a check that writes to a closed pipe."""
    with pytest.raises(BrokenPipeError):
        atomic.write_bytes(tmp_path / "a", b"", lambda temporary: os.write(broken_pipe(), b"x"))


def broken_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_symlink_is_kept_and_its_target_written(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").write_text("former")
    atomic.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    atomic.check_file(pipe)
    atomic.write_json(pipe, [1])
    reader.join()
    assert found == ["[\n 1\n]"] and pipe.is_fifo()
    atomic.write_json("/dev/null", [1])
    assert Path("/dev/null").is_char_device()


def test_long_names(tmp_path):
    atomic.write_text(tmp_path / ("ä" * 127), "")
    with pytest.raises(FileError, match="File name too long.*choose a shorter name"):
        atomic.write_text(tmp_path / ("a" * 256), "")


def test_threads_write_files_with_the_same_beginning(tmp_path):
    """Writes concurrently from two threads into files whose names differ only at the end."""
    names, together = ["a" * 60 + "1", "a" * 60 + "2"], threading.Barrier(2, timeout=60)

    def write(name):
        def content(temporary):
            temporary.write_text(name)
            together.wait()

        atomic.write_atomically(tmp_path / name, content)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, names))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict(zip(names, names))


# Modules that write directly: partial downloads, folders renamed when complete, lock files and growing logs.
PLAIN = {
    *("files/atomic.py", "files/archive.py", "files/download.py", "files/folder_lock.py", "files/remote.py"),
    *("data/output_folder.py", "data/array_cache.py", "data/shards.py", "classification/data/shards.py"),
    *("localization/data/proposals.py", "bench/gpu.py", "bench/gpu_stages/detector.py"),
}
WRITES = re.compile(
    r"""imwrite|\.write_(text|bytes)\(|open\([^)]*["'][wax]b?["']|np\.save|savefig|save_file|\.mkdir\("""
)


def test_other_modules_write_files_through_atomic():
    files = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    assert PLAIN <= files.keys()
    assert not [name for name in files.keys() - PLAIN if WRITES.search(files[name].read_text(encoding="utf-8"))]
