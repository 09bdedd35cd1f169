"""Differences between operating systems: signals, ports, positional reads, locks, renames over open files, memory.

Other modules use only functions of the standard library that are available on all systems.
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

HANG_UP: int | None = getattr(signal, "SIGHUP", None)  # sent when the terminal closes
CHILD_ENDED: int | None = getattr(signal, "SIGCHLD", None)
# Windows sends SIGBREAK when a console closes.
STOP_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
LOCKED_BYTE = 2**30  # beyond the content, since other processes cannot read locked bytes on Windows
PATIENCE = 2.0  # seconds before a rename over an open file fails; virus scanners hold new files open for a moment
PAUSE = 0.05  # seconds between attempts
# Options of glibc's mallopt and their values. A single arena, since those of other threads cannot hold large blocks.
MALLOC = {"M_MMAP_THRESHOLD": (-3, 2**30), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_ARENA_MAX": (-8, 1)}
INTERRUPTED = 128 + signal.SIGINT  # exit status
CGROUPS = Path("/sys/fs/cgroup")  # of the container, as mounted inside it
_reading = threading.Lock()


def usable_cores() -> int:
    """Returns the CPU cores of this process: its affinity, as set by Slurm or taskset, up to its container's quota."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    return min(cores, cpu_quota() or cores)


def cpu_quota() -> int | None:
    """Returns the container's quota of cores, as in `docker run --cpus`, rounded up; None without a quota."""
    with suppress(OSError, ValueError):  # cgroup v2; without a quota, the first word is "max"
        quota, period = map(int, (CGROUPS / "cpu.max").read_text().split())
        return math.ceil(quota / period)
    with suppress(OSError):  # cgroup v1; without a quota, it is -1
        quota, period = (int((CGROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return math.ceil(quota / period) if quota > 0 else None
    return None


def keep_to_quota() -> None:
    """Limits the number of torch's threads to the container's quota, before torch is imported: the default is one
    thread per core of the machine. `OMP_NUM_THREADS` takes precedence."""
    if cpu_quota():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def read_at(file: BinaryIO, size: int, offset: int) -> bytes:
    """Reads `size` bytes of an unbuffered file from `offset`, fewer at its end; threads and forked processes may share
    the file."""
    if sys.platform == "win32":  # no forked processes here
        with _reading:
            file.seek(offset)
            return file.read(size)
    return os.pread(file.fileno(), size, offset)


def lock_or_fail(file: IO) -> None:
    """Locks a file, opened for writing, against other processes; raises BlockingIOError or PermissionError if it is
    locked.

    The system releases the lock when the process ends for any reason; forked processes do not inherit it.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file.fileno(), LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def share_lock(file: IO) -> None:
    """Acquires a shared lock on a file, opened for reading and writing, which excludes `lock_or_fail` in other
    processes; downgrades this process's exclusive lock. Windows has no shared locks: there, the exclusive lock
    remains."""
    if sys.platform != "win32":
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def wait_and_lock(file: IO) -> None:
    """Waits for the lock of a file, opened for writing, and acquires it against other processes and threads."""
    if sys.platform == "win32":
        while True:
            with suppress(PermissionError):
                return lock_or_fail(file)
            time.sleep(PAUSE)
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)


def remove_locked(path: Path, file: IO) -> None:
    """Removes the file at `path`, and closes `file`, its open and locked handle."""
    if sys.platform == "win32":  # open files cannot be removed
        file.close()
        with suppress(PermissionError):  # another process has locked it since
            path.unlink(missing_ok=True)
    else:
        path.unlink(missing_ok=True)
        file.close()


def replace(source: Path, target: Path) -> None:
    """Renames a file over another one; on Windows, first waits for a moment until other processes have closed it."""
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
    """Whether SO_REUSEADDR lets two servers listen on one port; elsewhere, it frees the port of a server that ended."""
    return sys.platform == "win32"


def peak_memory() -> int | None:
    """Returns the peak resident memory of this process in bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> bool:
    """Configures malloc on Linux to reuse freed memory instead of returning it to the system; returns whether it does.

    By default, glibc returns freed blocks of 32 MB and more, such as feature maps, to the system, which clears each
    page when it is allocated again: a tenth of a detector's time on a CPU. This function raises the threshold to 1 GB.
    The environment variables `MALLOC_…` and `GLIBC_TUNABLES` take precedence.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    return mallopt is not None and all([mallopt(*option) for option in MALLOC.values()])


def kill_group(process: subprocess.Popen) -> None:
    """Kills the leader of a process group and, except on Windows, the other processes of the group."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
