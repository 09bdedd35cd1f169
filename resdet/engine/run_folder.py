"""The output folder of a run, locked by one run at a time."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from resdet.engine import checkpoint
from resdet.errors import Error
from resdet.system import lock_or_fail, remove_locked

LOCK = ".lock"
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # temporary files of resdet.files.atomic
MAX_NUMBER = 10_000  # of numbered folders


@contextmanager
def claim_folder(name: str, out: str | None, resume: bool) -> Iterator[Path]:
    """`out`, or the first of runs/NAME, runs/NAME-2, -3, … without a run; to resume, the last one with a run.

    Locks the folder against other processes within the context. Removes temporary files of a killed run, and at the
    end an empty folder.
    """
    folder, lock = claim_given(Path(out), resume) if out else claim_numbered(Path("runs") / name, resume)
    try:
        remove_temporary_files(folder)
        yield folder
    finally:
        remove_locked(folder / LOCK, lock)
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def claim_given(folder: Path, resume: bool) -> tuple[Path, IO[str]]:
    lock = try_lock(folder)
    if lock is None:
        raise Error(in_use(folder))
    check_unoccupied(folder, resume)
    return folder, lock


def check_unoccupied(folder: Path, resume: bool) -> None:
    if (folder / checkpoint.LAST).exists() and not resume:
        raise Error(f"{folder} already holds a run: add --resume to continue it, or give another --out.")


def claim_numbered(first: Path, resume: bool) -> tuple[Path, IO[str]]:
    candidates = [
        first.with_name(f"{first.name}-{number}" if number > 1 else first.name) for number in range(1, MAX_NUMBER)
    ]
    if resume:
        free = next(index for index, folder in enumerate(candidates) if not holds_run(folder))
        return claim_given(candidates[max(free - 1, 0)], resume)
    for folder in candidates:
        lock = None if holds_run(folder) else try_lock(folder)
        if lock is None:
            continue
        if not holds_run(folder):  # another process may have created one since
            return folder, lock
        lock.close()
    raise Error(f"{first} and {MAX_NUMBER} more folders hold runs: give --out.")


def holds_run(folder: Path) -> bool:
    return (folder / "run.json").exists()


def try_lock(folder: Path) -> IO[str] | None:
    """Creates the folder and returns its open, locked lock file; None if another process holds the lock.

    The system releases the lock when its process ends in any way, and forked loader workers do not inherit it.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:
            continue  # another process removed the folder
        except OSError as error:
            raise Error(f"{folder}: cannot write a run there ({error.strerror}); give another --out.") from error
        try:
            lock_or_fail(lock)
        except (BlockingIOError, PermissionError):  # POSIX allows both
            lock.close()
            return None
        except OSError:
            pass  # a file system without locks: the folder is unprotected
        if is_current(lock, folder / LOCK):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            return lock
        lock.close()  # its file was removed between opening and locking


def is_current(lock: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def in_use(folder: Path) -> str:
    holder = (folder / LOCK).read_text(encoding="utf-8") or "another process"
    return f"{folder} is in use by {holder}: wait until that run ends, or give another --out."


def remove_temporary_files(folder: Path) -> None:
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
