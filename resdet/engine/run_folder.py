"""The output folder of a run, locked by one run at a time."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import IO

from resdet.engine import checkpoint
from resdet.engine.restart import is_own
from resdet.errors import Error
from resdet.files.folder_lock import LOCK, in_use, release, try_lock

TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # temporary files of resdet.files.atomic
POLL = 0.5  # seconds between two attempts to lock
MAX_NUMBER = 10_000  # of numbered folders


@contextmanager
def claim_folder(name: str, out: str | None, resume: bool, patience: float = 0.0) -> Iterator[Path]:
    """`out`, or the first of runs/NAME, runs/NAME-2, -3, … without a run; to resume, the last one with a run.

    Locks the folder against other processes within the context. Removes temporary files of a killed run, and at the
    end an empty folder. A folder of this torchrun's own, made before a restart, is resumed: it may be locked by a
    process on a machine that is lost, whose lock ends after `patience` seconds.
    """
    first = Path("runs") / name
    interrupted = own_folder(first, out)
    if interrupted:
        folder, lock = claim_own(interrupted, patience)
    else:
        folder, lock = claim_given(Path(out), resume) if out else claim_numbered(first, resume)
    try:
        remove_temporary_files(folder)
        yield folder
    finally:
        release(lock, folder)


def own_folder(first: Path, out: str | None) -> Path | None:
    """The folder of this torchrun's own run, if it is a restart."""
    candidates = [Path(out)] if out else takewhile(holds_run, numbered(first))
    return next(filter(is_own, candidates), None)


def claim_own(folder: Path, patience: float) -> tuple[Path, IO[str]]:
    """Waits for the lock of a process before the restart, and then takes it over."""
    deadline = time.monotonic() + patience
    lock = try_lock(folder)
    while lock is None and time.monotonic() < deadline:
        time.sleep(POLL)
        lock = try_lock(folder)
    if lock is None:
        (folder / LOCK).unlink(missing_ok=True)
        return claim_given(folder, resume=True)
    return folder, lock


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
    candidates = numbered(first)
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


def numbered(first: Path) -> list[Path]:
    return [first.with_name(f"{first.name}-{number}" if number > 1 else first.name) for number in range(1, MAX_NUMBER)]


def holds_run(folder: Path) -> bool:
    return (folder / "run.json").exists()


def remove_temporary_files(folder: Path) -> None:
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
