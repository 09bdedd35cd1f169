"""A lock file in a folder, held by one process at a time, or shared by the processes of a command."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from resdet.errors import FileError
from resdet.system import lock_or_fail, remove_locked, share_lock

LOCK = ".lock"


def try_lock(folder: Path) -> IO[str] | None:
    """Creates the folder and returns its open, locked lock file; None if another process holds the lock.

    The system releases the lock when the process ends for any reason; forked loader workers do not inherit it.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:
            continue  # another process removed the folder
        except OSError as error:
            raise FileError(f"{folder}: cannot write there ({error.strerror}); give another folder.") from error
        if not lock_if_free(lock):
            lock.close()
            return None
        if is_current(lock, folder):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            return lock
        lock.close()  # its file was removed between opening and locking


def lock_if_free(lock: IO[str]) -> bool:
    """Locks an open lock file; returns False if another process holds the lock."""
    try:
        lock_or_fail(lock)
    except (BlockingIOError, PermissionError):  # POSIX allows both
        return False
    except OSError:
        pass  # a file system without locks: the folder is unprotected
    return True


def release(lock: IO[str], folder: Path) -> None:
    """Removes the lock file, unless another process has taken over the lock, and the folder if it is empty."""
    if is_current(lock, folder):
        remove_locked(folder / LOCK, lock)
    lock.close()
    with suppress(OSError):  # not empty, or another process uses or removed it
        folder.rmdir()


def share(lock: IO[str]) -> None:
    """Lets other processes share the lock with `try_share`."""
    lock.truncate(0)  # this process may end first
    with suppress(OSError):  # a file system without locks
        share_lock(lock)


def try_share(folder: Path) -> IO[str] | None:
    """Opens and locks a lock file that another process shares; None on a file system without locks."""
    try:
        lock = (folder / LOCK).open("r+", encoding="utf-8")
    except OSError:
        return None
    share(lock)
    return lock


def release_shared(lock: IO[str], folder: Path) -> None:
    """Closes a lock that others may share; the last process to do so removes the file."""
    lock.close()
    with suppress(FileNotFoundError), (folder / LOCK).open("r+", encoding="utf-8") as last:
        if lock_if_free(last):
            release(last, folder)


def is_current(lock: IO[str], folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat())
    except FileNotFoundError:
        return False


def in_use(folder: Path) -> str:
    """Returns the message about a folder that another process has locked."""
    holder = ""
    with suppress(FileNotFoundError):  # the process has ended in the meantime
        holder = (folder / LOCK).read_text(encoding="utf-8")
    return f"{folder} is in use by {holder or 'another process'}: wait until it ends, or give another folder."
