"""Files are whole or not there, whatever the disk says, and what it says comes as one sentence."""

import json
import os
import re
import threading
from pathlib import Path

import disks
import numpy as np
import pytest
import torch

import resdet
from resdet.errors import FileError
from resdet.files import atomic

PACKAGE = Path(resdet.__file__).parent
LARGE = 1 << 20


WRITERS = {
    "bytes": lambda path: atomic.write_bytes(path, bytes(LARGE)),
    "text": lambda path: atomic.write_text(path, "ä" * LARGE),
    "json": lambda path: atomic.write_json(path, list(range(LARGE // 4))),
    "image": lambda path: atomic.write_image(path, np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)),
    "tensor": lambda path: atomic.write_torch(path, torch.zeros(LARGE)),
    "tensors": lambda path: atomic.write_torch(path, [row.clone() for row in torch.eye(200)]),
}


def test_json_has_no_nan(tmp_path):
    """RFC 8259 has none; Python's own reader takes it, others refuse the file."""
    content = {"AP": float("nan"), "rows": [1.5, float("inf"), {"a": (-float("inf"), True, None)}]}
    atomic.write_json(tmp_path / "a.json", content)
    refuse = lambda name: pytest.fail(f"{name} is no JSON")
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert found == {"AP": None, "rows": [1.5, None, {"a": [None, True, None]}]}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("size", [0, 100, 70000])
def test_what_does_not_fit_leaves_the_former_file(kind, size, tmp_path):
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


def test_a_full_disk(tmp_path):
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


def test_a_read_only_disk(tmp_path):
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
def test_a_file_where_a_folder_should_be(folder, tmp_path):
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


def test_checks_leave_nothing(tmp_path):
    atomic.check_folder(tmp_path / "a/b")
    atomic.check_file(tmp_path / "a/b.json")
    assert not list(tmp_path.iterdir())


def test_lines_are_added_whole(tmp_path):
    path = tmp_path / "lines"
    atomic.append_bytes(path, b"first\n")
    with disks.limited(10), pytest.raises(FileError, match="the old file is kept"):
        atomic.append_bytes(path, b"second\n")
    assert path.read_bytes() == b"first\n"
    atomic.append_bytes(path, b"second\n")
    assert path.read_bytes() == b"first\nsecond\n"


def test_a_check_decides_whether_the_file_stays(tmp_path):
    def refuse(temporary):
        assert temporary.read_bytes() == b"new"
        raise ZeroDivisionError

    path = tmp_path / "a"
    path.write_text("former")
    with pytest.raises(ZeroDivisionError):
        atomic.write_bytes(path, b"new", refuse)
    assert path.read_text() == "former" and list(tmp_path.iterdir()) == [path]


def test_an_error_of_a_check_is_not_one_of_the_file(tmp_path):
    """A check prints: a reader that has gone is not the file's fault."""
    with pytest.raises(BrokenPipeError):
        atomic.write_bytes(tmp_path / "a", b"", lambda temporary: os.write(broken_pipe(), b"x"))


def broken_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_link_goes_on_pointing_there(tmp_path):
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


def test_the_longest_names(tmp_path):
    atomic.write_text(tmp_path / ("ä" * 127), "")
    with pytest.raises(FileError, match="File name too long.*choose a shorter name"):
        atomic.write_text(tmp_path / ("a" * 256), "")


def test_images_are_rgb(tmp_path):
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    atomic.write_image(tmp_path / "a.png", pixels)
    assert (cv2.imread(str(tmp_path / "a.png"))[..., ::-1] == pixels).all()
    with pytest.raises(FileError, match="70000 × 1 pixels are too many"):
        atomic.write_image(tmp_path / "a.JPEG", np.zeros((1, 70000, 3), np.uint8))


# Downloads continue partial files, folders that appear whole are filled plainly, a lock is no content, and logs grow.
PLAIN = {
    *("files/atomic.py", "files/download.py", "data/generated.py", "data/array_cache.py", "files/folder_lock.py"),
    *("localization/data/proposals.py", "bench/gpu.py", "bench/gpu_stages/detector.py"),
    *("data/shards.py", "classification/data/shards.py", "files/remote.py"),
}
WRITES = re.compile(
    r"""imwrite|\.write_(text|bytes)\(|open\([^)]*["'][wax]b?["']|np\.save|savefig|save_file|\.mkdir\("""
)


def test_nothing_is_written_in_another_way():
    files = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    assert PLAIN <= files.keys()
    assert not [name for name in files.keys() - PLAIN if WRITES.search(files[name].read_text(encoding="utf-8"))]
