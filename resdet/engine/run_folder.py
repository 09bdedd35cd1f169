"""The output folder of a run, locked by one run at a time."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

from resdet.engine import checkpoint
from resdet.engine.run_record import CONFIG, RECORD, UNNAMED, read_record, torchrun_id
from resdet.errors import Error
from resdet.files.folder_lock import LOCK, in_use, release, try_lock

TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # temporary files of resdet.files.atomic
POLL = 0.5  # seconds between attempts to lock


@contextmanager
def claim_folder(name: str, out: str | None, resume: bool, patience: float = 0.0) -> Iterator[Path]:
    """Yields `out`, or the next of runs/NAME, runs/NAME-2, -3, … after the last one with a run; with `resume`, the last
    one.

    Locks the folder against other processes within the context. Removes temporary files of a killed run, and at the end
    an empty folder. A folder that this torchrun created before a restart is resumed. Its lock may belong to a process
    on a lost machine; it is taken over after `patience` seconds.
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
    """Returns the folder of this torchrun's run after a restart."""
    candidates = [Path(out)] if out else runs(first).values()
    return next(filter(is_own, candidates), None)


def is_own(folder: Path) -> bool:
    """Whether an earlier start of this torchrun created the folder: its processes continue that run without --resume.

    Process ids are reused: without --rdzv-id, only a restart counts.
    """
    run_id = torchrun_id()
    named = os.environ.get("TORCHELASTIC_RUN_ID") != UNNAMED
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    return run_id is not None and (named or restarted) and read_record(folder).get("torchrun") == run_id


def claim_own(folder: Path, patience: float) -> tuple[Path, IO[str]]:
    """Waits for a process of the previous start to release the lock, and then takes it over."""
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
    try:
        check_unoccupied(folder, resume)
    except Error:
        release(lock, folder)
        raise
    return folder, lock


def check_unoccupied(folder: Path, resume: bool) -> None:
    if (folder / checkpoint.LAST).exists() and not resume:
        raise Error(f"{folder} already holds a run: add --resume to continue it, or give another --out.")


def claim_numbered(first: Path, resume: bool) -> tuple[Path, IO[str]]:
    last = max(runs(first), default=0)
    if resume:
        return claim_given(numbered(first, max(last, 1)), resume)
    folders = (numbered(first, number) for number in count(last + 1))
    return next(filter(None, map(claim_new, folders)))


def claim_new(folder: Path) -> tuple[Path, IO[str]] | None:
    """Locks the folder; None if another process has locked it or created a run there in the meantime."""
    lock = try_lock(folder)
    if lock is None:
        return None
    if holds_run(folder):
        release(lock, folder)
        return None
    return folder, lock


def numbered(first: Path, number: int) -> Path:
    return first.with_name(f"{first.name}-{number}") if number > 1 else first


def runs(first: Path) -> dict[int, Path]:
    """Returns the folders with a run by number, in order; some numbers may be missing."""
    names = re.compile(rf"{re.escape(first.name)}(?:-([2-9]|[1-9]\d+))?")
    folders = first.parent.iterdir() if first.parent.is_dir() else ()
    found = {int(match[1] or 1): path for path in folders if (match := names.fullmatch(path.name)) and holds_run(path)}
    return dict(sorted(found.items()))


def holds_run(folder: Path) -> bool:
    return (folder / RECORD).exists()


def folder_of(config: str) -> str | None:
    """Returns the folder of the run that wrote this config; None for other configs."""
    path = Path(config)
    return str(path.parent) if path.name == CONFIG and holds_run(path.parent) else None


def remove_temporary_files(folder: Path) -> None:
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
