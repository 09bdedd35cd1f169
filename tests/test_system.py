"""Tests `resdet.system` on POSIX, and with Windows's rules for open and locked files emulated."""

import ctypes
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resdet import system
from resdet.data import output_folder
from resdet.engine.run_folder import claim_folder
from resdet.errors import Error, FileError
from resdet.files.atomic import write_text
from resdet.localization.data.proposals import ProposalFiles

fcntl = pytest.importorskip("fcntl", reason="emulates Windows on POSIX")


def opened() -> set[str]:
    """Returns the files that this process has open or mapped."""
    links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if os.path.lexists(path))
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {*links, *(fields[5] for line in maps if len(fields := line.split(maxsplit=5)) == 6)}


def locking(descriptor: int, mode: int, count: int) -> None:
    """Emulates msvcrt.locking, which fails if another open file has locked the byte; content must stay readable."""
    assert (mode, count) == (1, 1) and os.lseek(descriptor, 0, os.SEEK_CUR) > 1000
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(13, "Permission denied") from error


@pytest.mark.parametrize(
    "files, cores",
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "25000 50000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_quota_of_a_container(monkeypatch, tmp_path, files, cores):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(system, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(2, 66)))
    monkeypatch.setattr(os, "environ", {})
    assert system.cpu_quota() == cores
    assert system.usable_cores() == (cores or 64)
    system.keep_to_quota()
    assert os.environ.get("OMP_NUM_THREADS") == (str(cores) if cores else None)


def test_quota_leaves_given_numbers_of_threads(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    monkeypatch.setattr(system, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert system.usable_cores() == 1  # not more than the affinity
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "7"})
    system.keep_to_quota()
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.fixture
def windows(monkeypatch):
    """Refuses to remove or replace open files and to rename over a folder, and locks like msvcrt."""
    unlink, replace, rename = Path.unlink, Path.replace, Path.rename

    def refuse_open(*paths):
        if any(os.path.realpath(path) in opened() for path in paths):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    def unlink_closed(path, missing_ok=False):
        refuse_open(path)
        unlink(path, missing_ok)

    def replace_closed(path, target):
        refuse_open(path, target)
        return replace(path, target)

    def rename_to_new(path, target):
        refuse_open(path)
        if os.path.exists(target):
            raise FileExistsError(17, "Cannot create a file when that file already exists")
        return rename(path, target)

    monkeypatch.setattr(Path, "unlink", unlink_closed)
    monkeypatch.setattr(Path, "replace", replace_closed)
    monkeypatch.setattr(Path, "rename", rename_to_new)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=1))
    for name in ("fcntl", "resource"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("pread", "killpg"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(sys, "platform", "win32")


@pytest.fixture(params=["posix", "windows"])
def either(request):
    if request.param == "windows":
        request.getfixturevalue("windows")


def test_threads_share_a_file(either, tmp_path):
    content = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "file").write_bytes(content)
    ranges = [(start, 1 + start % 977) for start in range(0, 100_500, 51)]
    with open(tmp_path / "file", "rb", buffering=0) as file, ThreadPoolExecutor(8) as threads:
        parts = threads.map(lambda each: system.read_at(file, each[1], each[0]), ranges)
        assert list(parts) == [content[start : start + size] for start, size in ranges]


def test_a_run_folder_in_use_is_refused(windows, tmp_path):
    with claim_folder("run", str(tmp_path / "out"), resume=False) as folder:
        with pytest.raises(Error, match=f"in use by process {os.getpid()} on "):
            claim_folder("run", str(folder), resume=False).__enter__()
        (folder / "run.json").write_text("{}")
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    with claim_folder("run", str(folder), resume=True):
        pass


def test_an_empty_run_folder_is_removed(either, tmp_path):
    with claim_folder("run", str(tmp_path / "out"), resume=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wait_and_lock_blocks_until_release(either, tmp_path):
    path, order = tmp_path / "lock", []

    def second() -> None:
        with open(path, "wb") as file:
            system.wait_and_lock(file)
            order.append("second")

    with open(path, "wb") as file:
        system.wait_and_lock(file)
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_an_open_file_is_replaced_after_it_is_closed(windows, tmp_path, monkeypatch):
    write_text(tmp_path / "file", "old")
    reader = open(tmp_path / "file")
    monkeypatch.setattr(system.time, "sleep", lambda seconds: reader.close())
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_file_that_stays_open_is_kept(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(system, "PATIENCE", 0.1)
    write_text(tmp_path / "file", "old")
    with open(tmp_path / "file") as reader:
        with pytest.raises(FileError, match="being used by another process.*the old file is kept"):
            write_text(tmp_path / "file", "new")
        assert reader.read() == "old" and os.listdir(tmp_path) == ["file"]


def test_fsync_gets_a_writable_file(tmp_path, monkeypatch):
    """Checks that fsync gets a writable file descriptor, which Windows requires."""
    modes = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL)))
    write_text(tmp_path / "file", "new")
    assert [mode & os.O_ACCMODE for mode in modes] == [os.O_RDWR]


def test_data_are_generated_in_an_empty_folder(either, tmp_path):
    (tmp_path / "data").mkdir()
    output_folder.ensure(tmp_path / "data", "marker", "data", {"n": 1}, lambda folder: (folder / "a").write_text("a"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "data", "marker"]


def test_proposals_are_written(either, tmp_path):
    files = ProposalFiles(tmp_path / "proposals", images=3, most=2)
    files.write(1, np.ones((1, 4), np.float32))
    assert files.missing().tolist() == [0, 2] and files[1].tolist() == [[1, 1, 1, 1]]
    assert sorted(os.listdir(tmp_path / "proposals")) == ["boxes.npy", "counts.npy"]


def test_peak_memory_is_in_bytes():
    """Checks the unit: kilobytes would be below the range, a wrong factor of 1024 above."""
    held = np.ones(20_000_000)
    assert held.nbytes < system.peak_memory() < 100 * held.nbytes


def test_peak_memory_is_none_on_windows(windows):
    assert system.peak_memory() is None


def test_kill_group_ends_child_processes():
    words = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '600'])"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    system.kill_group(process)
    assert process.returncode == -9 and process.stdout.read() == b""  # ends when no process holds the pipe


def test_all_modules_import_on_windows():
    script = Path(__file__).with_name("windows_imports.py")
    finished = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert finished.stdout == "imported\n", finished.stdout + finished.stderr


def test_characters_outside_the_output_encoding_are_escaped():
    words = "import sys; from resdet.cli.process import main; sys.exit(main(['reproduce', '--list', 'table1']))"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(Path(__file__).parents[1])}
    finished = subprocess.run([sys.executable, "-c", words], env=environment, capture_output=True)
    assert finished.returncode == 0, finished.stderr
    assert "ResNet-18 | 10\\u2079 multiply-adds" in finished.stdout.decode("cp1252")


REUSE = """
import ctypes, resource
from resdet.system import keep_freed_memory
print(keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(2**26)
    libc.memset(block, 1, 2**26)
    libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
@pytest.mark.parametrize("variable", [None, "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_freed_memory_is_reused_unless_the_environment_disables_it(variable):
    """Counts the pages that the system clears for blocks of 64 MB: none after the first block."""
    names = [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if variable:
        environment[variable] = "4" if variable.startswith("MALLOC") else "glibc.malloc.arena_max=4"
    done = subprocess.run([sys.executable, "-c", REUSE], env=environment, capture_output=True, text=True, check=True)
    kept, first, *others = done.stdout.split()
    assert kept == str(variable is None)
    if not variable:
        assert max(map(int, others)) < 100
