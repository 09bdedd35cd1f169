"""Simulates full disks by a file-size limit, which needs no privileges, or by a small tmpfs."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="needs the limits of POSIX")


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Limits files of this process to `size` bytes; a longer write fails with EFBIG because Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def tmpfs(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mounts a small tmpfs at `folder`; skips the test if the user may not mount."""
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
    """Fills a tmpfs except for `left` kilobytes."""
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
    """Lists the temporary (dot) files and folders below `folder`."""
    return [str(path) for path in folder.rglob(".*")]
