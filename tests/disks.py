"""Disks that take no more: by a limit on the size of files, which needs no rights, and by file systems of their own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="needs the limits of POSIX")


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: the rest of a write fails with EFBIG, as Python is set up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def tmpfs(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A small file system at `folder`; the test is skipped where nobody may mount one."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs needs rights that this user does not have")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_read_only(mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)


def fill(folder: Path, left: int = 0) -> None:
    """Takes the space of a tmpfs, but for so many kilobytes."""
    (folder / "rest").unlink(missing_ok=True)
    (folder / "fill").write_bytes(bytes(1024 * left))
    with (folder / "rest").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
    (folder / "fill").unlink()


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders below it."""
    return [str(path) for path in folder.rglob(".*")]
