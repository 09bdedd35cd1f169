"""Ends a short run at random moments, resumes it to its end, and compares it bitwise with an uninterrupted run.

    python tests/engine/kill_table.py [--kills 100] [--signals 10] [--folder DIR] [--seed 0]

Prints a table of the ways to end a run with their counts, and fails if the last checkpoint, the best checkpoint or the
metrics differ from those of the uninterrupted run.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from engine.cutting import assert_same_run  # noqa: E402
from running import LOADED, TINY  # noqa: E402

import resdet.classification.data.transforms  # noqa: E402, F401
import resdet.classification.task  # noqa: E402, F401
import resdet.commands.train  # noqa: E402, F401
from resdet.cli import process  # noqa: E402
from resdet.engine.checkpoint import has_ended, read_last  # noqa: E402

SPREAD = 0.04  # random delay before a hit, as a fraction of the duration of the whole run

# Fast steps, with every feature that adds state to a checkpoint.
RUN = [
    *TINY,
    "train.length=150",
    "train.evaluate_every=15",
    "train.checkpoint_every=7",
    "train.ema=0.9",
    "train.exact_statistics=16",
    "train.deterministic=true",
    "schedule.name=plateau",
    "schedule.patience=2",
    "schedule.gamma=0.9",
]
# Images loaded from files by worker processes.
PHOTOGRAPHS = [
    *LOADED,
    "data.val_images=16",
    "train.length=60",
    "train.evaluate_every=15",
    "train.checkpoint_every=7",
    "train.log_every=3",
    "train.deterministic=true",
]


@dataclass
class Way:
    """A way to end a run."""

    name: str
    number: int
    target: str  # process, group or worker
    words: list[str]


WAYS = [
    Way("SIGKILL", signal.SIGKILL, "process", RUN),
    Way("SIGKILL of the group, with workers", signal.SIGKILL, "group", PHOTOGRAPHS),
    Way("SIGKILL, which leaves workers behind", signal.SIGKILL, "process", PHOTOGRAPHS),
    Way("SIGTERM to the group, with workers", signal.SIGTERM, "group", PHOTOGRAPHS),
    Way("SIGHUP to the group, with workers", signal.SIGHUP, "group", PHOTOGRAPHS),
    Way("SIGINT to the group, with workers", signal.SIGINT, "group", PHOTOGRAPHS),
    Way("SIGKILL of a worker", signal.SIGKILL, "worker", PHOTOGRAPHS),
]


def fork(folder: Path, words: list[str]) -> int:
    """Starts the run in a new process group and returns its process id; a fork saves the time of the imports."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    log = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os._exit(process.main(["train", *words, "--out", str(folder), "--resume"]))


def status_of(child: int, wait: bool) -> int | None:
    """Returns the exit status of the child, negative for a signal, or None while it runs."""
    ended, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def readings(folder: Path) -> int:
    log = folder / "metrics.jsonl"
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def hit(child: int, way: Way, rng: random.Random) -> bool:
    """Sends the signal; returns False if the run has no worker to send it to."""
    if way.target == "worker":
        children = Path(f"/proc/{child}/task/{child}/children").read_text().split()
        if not children:
            return False
        child = int(rng.choice(children))
    (os.killpg if way.target == "group" else os.kill)(child, way.number)
    return True


def run_to_the_end(folder: Path, way: Way, most: int, spread: float, rng: random.Random, counts: Counter) -> None:
    """Restarts the run until it is complete, sending at most `most` signals."""
    hits = 0
    while True:
        child = fork(folder, way.words)
        before, status = readings(folder), None
        delay = rng.random() * spread
        # Three of four hits wait for the first step after the start; the fourth comes at any time.
        patient = rng.random() < 0.75
        while status is None and hits < most:
            if patient and readings(folder) == before:
                time.sleep(0.005)
            else:
                time.sleep(delay)
                status = status_of(child, wait=False)
                if status is None and hit(child, way, rng):
                    hits += 1
                    if way.target != "worker":
                        break
            status = status if status is not None else status_of(child, wait=False)
        status = status_of(child, wait=True) if status is None else status
        counts[f"status {status}"] += 1
        content = folder / "last.pth"
        if status == 0 and content.exists() and has_ended(read_last(folder)):
            break
        allowed = [0, -way.number, 128 + way.number]
        if way.target == "worker":
            allowed.append(2)  # two killed workers in one batch: the run saves a checkpoint and exits
        if status not in allowed:
            raise SystemExit(f"status {status}: see {folder}.log")
    counts["hits"] += hits


def row(way: Way, wanted: int, whole: Path, spread: float, rng: random.Random) -> str:
    counts: Counter = Counter()
    started = time.monotonic()
    while counts["hits"] < wanted:
        folder = whole.parent / f"{way.name.replace(' ', '_')}-{counts['runs']}"
        run_to_the_end(folder, way, wanted - counts["hits"], spread, rng, counts)
        assert_same_run(whole, folder)
        said = Path(f"{folder}.log").read_text()
        counts["tracebacks"] += said.count("Traceback")
        counts["runs"] += 1
    statuses = ", ".join(f"{key.split()[1]} × {counts[key]}" for key in sorted(counts) if key.startswith("status"))
    seconds = time.monotonic() - started
    return (
        f"| {way.name} | {counts['hits']} | {counts['runs']} of {counts['runs']} equal | {statuses} "
        f"| {counts['tracebacks']} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs of the plain run")
    parser.add_argument("--signals", type=int, default=10, help="of each of the other ways")
    parser.add_argument("--folder", type=Path, help="where the runs are kept; default: a temporary folder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        home = given.folder or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        wholes, spreads = {}, {}
        for name, words in (("plain", RUN), ("photographs", PHOTOGRAPHS)):
            wholes[name] = home / name
            started = time.monotonic()
            if status_of(fork(wholes[name], words), wait=True) != 0:
                raise SystemExit((home / f"{name}.log").read_text())
            spreads[name] = SPREAD * (time.monotonic() - started)
        print("| ended by | times | runs | exit statuses | tracebacks | seconds |")
        print("|---|---|---|---|---|---|", flush=True)
        for way in WAYS:
            kind, count = ("plain", given.kills) if way.words is RUN else ("photographs", given.signals)
            print(row(way, count, wholes[kind], spreads[kind], rng), flush=True)


if __name__ == "__main__":
    main()
