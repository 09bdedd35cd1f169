"""A lock file in a folder, held by one process at a time."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from resdet.errors import FileError
from resdet.system import lock_or_fail, remove_locked

LOCK = ".lock"


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
            raise FileError(f"{folder}: cannot write there ({error.strerror}); give another folder.") from error
        try:
            lock_or_fail(lock)
        except (BlockingIOError, PermissionError):  # POSIX allows both
            lock.close()
            return None
        except OSError:
            pass  # a file system without locks: the folder is unprotected
        if is_current(lock, folder):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            return lock
        lock.close()  # its file was removed between opening and locking


def release(lock: IO[str], folder: Path) -> None:
    """Removes the lock file, unless another process has taken the lock over, and an empty folder."""
    if is_current(lock, folder):
        remove_locked(folder / LOCK, lock)
    lock.close()
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def is_current(lock: IO[str], folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat())
    except FileNotFoundError:
        return False


def in_use(folder: Path) -> str:
    """The sentence on a folder that another process has locked."""
    holder = ""
    with suppress(FileNotFoundError):  # it has ended since
        holder = (folder / LOCK).read_text(encoding="utf-8")
    return f"{folder} is in use by {holder or 'another process'}: wait until it ends, or give another folder."
