"""What a run tells: a live line on the terminal, metrics.jsonl, TensorBoard, and a record of how it was made."""

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from resdet import __version__
from resdet.engine.tensorboard import EventWriter
from resdet.files.atomic import append_bytes, write_json, write_text

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "timm")


class Log:
    """Speaks from the start and writes into `out` once opened; silent where `out` is None (all processes but one)."""

    def __init__(self, out: Path | None):
        self.out = out
        self.total = 0
        self.file = self.board = self.bar = None

    def open(self, total_steps: int, resumed_at: int, evaluation_due: bool = False) -> None:
        """Starts the files and the live line of a run of so many steps; a resumed one writes again what came after its
        checkpoint, and the evaluation that is due."""
        self.total = total_steps
        if self.out is None:
            return
        path = self.out / "metrics.jsonl"
        lost = keep_until(path, resumed_at, evaluation_due)
        if lost:
            self.say(f"{path}: dropped {lost} damaged line{'s' if lost > 1 else ''}")
        self.file = path
        if find_spec("tensorboard"):
            self.board = EventWriter(self.out / "tensorboard", resumed_at)
        if sys.stderr.isatty():
            self.bar, self.bar_task = progress_bar(total_steps, resumed_at)

    def metrics(self, step: int, kind: str, figures: dict[str, float]) -> None:
        """One line of metrics.jsonl (`kind` is train or val) and a point of each curve."""
        if self.file is None:
            return
        rounded = {key: float(f"{value:.6g}") for key, value in figures.items()}
        append_bytes(self.file, (json.dumps({"step": step, "kind": kind, **rounded}) + "\n").encode())
        if self.board:
            self.board.add(step, {f"{kind}/{key}": value for key, value in figures.items()})

    def progress(self, step: int, text: str, seconds_left: float) -> None:
        """The live line; where nobody watches a terminal, a plain one."""
        if self.bar:
            self.bar.update(self.bar_task, completed=step, status=text)
        else:
            self.say(f"step {step}/{self.total}  {text}  left {timedelta(seconds=round(seconds_left))}")

    def say(self, text: str) -> None:
        if self.out is None:
            return
        with suppress(OSError):  # a terminal that has gone, or a full disk behind 2>, does not end a run
            if self.bar:
                self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """What must not be lost, from any process."""
        if self.out is None:
            with suppress(OSError):
                print(text, file=sys.stderr, flush=True)
        else:
            self.say(text)

    def close(self) -> None:
        with suppress(OSError):
            if self.bar:
                self.bar.stop()


def keep_until(path: Path, step: int, evaluation_due: bool) -> int:
    """Drops the lines past the step that a run goes on from, which it will write again, and those of an evaluation at
    that step that is due again. Lines that cannot be read, as a killed run or a full disk leaves them, are dropped as
    well; returns how many."""
    if not path.exists():
        return 0
    kept, lost = [], 0
    for line in path.read_bytes().splitlines():
        try:
            text = line.decode()
            entry = json.loads(text)
            past = entry["step"] > step or (evaluation_due and entry["step"] == step and entry["kind"] == "val")
        except (ValueError, TypeError, KeyError, RecursionError):
            lost += 1
            continue
        if not past:
            kept.append(f"{text}\n")
    write_text(path, "".join(kept))
    return lost


def progress_bar(total: int, start: int):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    figures = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # in a narrow terminal these are cut, and not the rest
    columns = (
        BarColumn(10),
        MofNCompleteColumn(table_column=Column(min_width=2 * len(str(total)) + 1, no_wrap=True)),
        TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
        TextColumn("{task.fields[status]}", table_column=figures),
    )
    bar = Progress(*columns, console=Console(stderr=True), expand=True)
    task = bar.add_task("train", total=total, completed=start, status="first step …")
    bar.start()
    return bar, task


def record(out: Path, experiment: str, seed: int, device: torch.device, world: int) -> None:
    """config.yaml, the whole resolved experiment, and run.json: when, where, with what and by which command."""
    write_text(out / "config.yaml", experiment)
    facts: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": sys.argv,
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processes": world,
        "threads": torch.get_num_threads(),
        "resdet": __version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "packages": versions(),
    }
    write_json(out / "run.json", facts)


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Its name and its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def git_revision() -> str | None:
    """The commit of the checkout that runs, with a + where it has changes; None for an installed package."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    ask = lambda *words: subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True
    ).stdout.strip()
    return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "-uno") else "")
