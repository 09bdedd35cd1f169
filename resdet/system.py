"""What differs between operating systems: signals, ports, reads at a position, locks, renames over open files, memory.

No other module uses functions of the standard library that one of them lacks.
"""

import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

HANG_UP: int | None = getattr(signal, "SIGHUP", None)  # the terminal closes
CHILD_ENDED: int | None = getattr(signal, "SIGCHLD", None)
# SIGBREAK is the close of a console on Windows.
STOP_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
LOCKED_BYTE = 2**30  # beyond the content: Windows forbids others to read locked bytes
PATIENCE = 2.0  # seconds until a rename over an open file fails; virus scanners hold new files open for a moment
PAUSE = 0.05  # seconds between two attempts
# Options of glibc's mallopt and their values. One arena, since those of other threads cannot hold large blocks.
MALLOC = {"M_MMAP_THRESHOLD": (-3, 2**30), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_ARENA_MAX": (-8, 1)}
INTERRUPTED = 128 + signal.SIGINT  # exit status
CGROUPS = Path("/sys/fs/cgroup")  # of the container, inside it
_reading = threading.Lock()


def usable_cores() -> int:
    """CPU cores of this process: those of its affinity, as of Slurm and taskset, at most the quota of its container."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    return min(cores, cpu_quota() or cores)


def cpu_quota() -> int | None:
    """Cores that the quota of the container allows, as of `docker run --cpus`, rounded up; None without a quota."""
    with suppress(OSError, ValueError):  # cgroup v2; without a quota, the first word is "max"
        quota, period = map(int, (CGROUPS / "cpu.max").read_text().split())
        return math.ceil(quota / period)
    with suppress(OSError):  # cgroup v1; without a quota, it is -1
        quota, period = (int((CGROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return math.ceil(quota / period) if quota > 0 else None
    return None


def keep_to_quota() -> None:
    """Limits torch, if not yet imported, to the threads of the container's quota: its default is one per core of the
    machine. `OMP_NUM_THREADS` takes precedence."""
    if cpu_quota():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def read_at(file: BinaryIO, size: int, offset: int) -> bytes:
    """Reads `size` bytes of an unbuffered file from `offset`, or fewer at its end; threads may share the file, and
    forked processes too."""
    if sys.platform == "win32":  # where no processes are forked
        with _reading:
            file.seek(offset)
            return file.read(size)
    return os.pread(file.fileno(), size, offset)


def lock_or_fail(file: IO) -> None:
    """Locks a file, opened for writing, against other processes; a BlockingIOError or PermissionError if it is locked.

    The system releases the lock when its process ends in any way, and forked processes do not inherit it.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file.fileno(), LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def share_lock(file: IO) -> None:
    """Locks a file, opened for reading and writing, against `lock_or_fail` of other processes, which may share this
    lock; turns an own lock into a shared one. Windows has no shared locks: an own lock remains."""
    if sys.platform != "win32":
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def wait_and_lock(file: IO) -> None:
    """Locks a file, opened for writing, against other processes and threads, when the one that locks it has closed
    it."""
    if sys.platform == "win32":
        while True:
            with suppress(PermissionError):
                return lock_or_fail(file)
            time.sleep(PAUSE)
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)


def remove_locked(path: Path, file: IO) -> None:
    """Removes the file at `path`, and closes `file`, which is open and locked there."""
    if sys.platform == "win32":  # open files cannot be removed
        file.close()
        with suppress(PermissionError):  # another process has locked it since
            path.unlink(missing_ok=True)
    else:
        path.unlink(missing_ok=True)
        file.close()


def replace(source: Path, target: Path) -> None:
    """Renames a file over another one; on Windows, waits for a moment until no process has the other one open."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


def replaces_empty_folders() -> bool:
    """Whether a folder can be renamed over an empty one."""
    return sys.platform != "win32"


def shares_ports() -> bool:
    """Whether SO_REUSEADDR lets two servers listen at one port; elsewhere, it frees the port of a server that ended."""
    return sys.platform == "win32"


def peak_memory() -> int | None:
    """Peak of the resident memory of this process in bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> bool:
    """Lets this process reuse freed memory instead of returning it to Linux; returns whether it does so.

    By default, glibc takes blocks of 32 MB and more, such as feature maps, from the system and returns them, and the
    system clears each page again: a tenth of the time of a detector on a CPU. Now this applies to blocks of 1 GB. The
    variables `MALLOC_…` and `GLIBC_TUNABLES` of the environment take precedence.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(*option) for option in MALLOC.values()])


def kill_group(process: subprocess.Popen) -> None:
    """Ends a process that leads a process group and, except on Windows, those that it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
