"""The folder of a run, which one run at a time writes into."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from resdet.engine import checkpoint
from resdet.errors import Error

LOCK = ".lock"
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # as resdet.files.atomic names files that are not whole yet
MOST = 10_000  # numbered folders that are tried


@contextmanager
def claim_folder(name: str, out: str | None, resume: bool) -> Iterator[Path]:
    """`out`, or runs/NAME, or the first of runs/NAME-2, -3, … that holds no run; to resume, the last that does.

    While it lasts, no other process gets this folder. What a killed run left half written is removed, and so is a
    folder into which nothing was written.
    """
    folder, lock = claim_given(Path(out), resume) if out else claim_numbered(Path("runs") / name, resume)
    try:
        remove_temporary_files(folder)
        yield folder
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
        lock.close()


def claim_given(folder: Path, resume: bool) -> tuple[Path, IO[str]]:
    lock = try_lock(folder)
    if lock is None:
        raise Error(in_use(folder))
    check_unoccupied(folder, resume)
    return folder, lock


def check_unoccupied(folder: Path, resume: bool) -> None:
    if (folder / checkpoint.LAST).exists() and not resume:
        raise Error(f"{folder} holds a run already: add --resume to go on with it, or give another --out.")


def claim_numbered(first: Path, resume: bool) -> tuple[Path, IO[str]]:
    candidates = [first.with_name(f"{first.name}-{number}" if number > 1 else first.name) for number in range(1, MOST)]
    if resume:
        free = next(index for index, folder in enumerate(candidates) if not holds_run(folder))
        return claim_given(candidates[max(free - 1, 0)], resume)
    for folder in candidates:
        lock = None if holds_run(folder) else try_lock(folder)
        if lock is None:
            continue
        if not holds_run(folder):  # as another process may have made it meanwhile
            return folder, lock
        lock.close()
    raise Error(f"{first} and {MOST} more folders hold runs: give --out.")


def holds_run(folder: Path) -> bool:
    return (folder / "run.json").exists()


def try_lock(folder: Path) -> IO[str] | None:
    """The open lock file of a folder, which is made; None where another process has it.

    The system releases the lock with the process that holds it, however that ends, and forked loader workers do not
    inherit it.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:
            continue  # another process gave the folder up and removed it
        except OSError as error:
            raise Error(f"{folder} cannot be the folder of a run ({error.strerror}): give another --out.") from error
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows both
            lock.close()
            return None
        except OSError:
            pass  # a file system without locks: nothing protects the folder
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
    return f"{folder} is in use by {holder}: wait until that run has ended, or give another --out."


def remove_temporary_files(folder: Path) -> None:
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
