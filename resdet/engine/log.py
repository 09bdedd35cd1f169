"""Logs of a run: a progress bar on the terminal, metrics.jsonl, TensorBoard, and a record of its settings."""

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

CONFIG = "config.yaml"  # the resolved experiment of a run
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "timm")


class Log:
    """Prints from the start, and writes to `out` after `open`; silent if `out` is None (all ranks but 0)."""

    def __init__(self, out: Path | None):
        self.out = out
        self.total = 0
        self.file: Path | None = None
        self.board: EventWriter | None = None
        self.bar: Any = None  # rich's Progress

    def open(self, total_steps: int, resumed_at: int, evaluation_due: bool = False) -> None:
        """Opens the files and the progress bar of a run of `total_steps` steps; drops the metrics that a resumed run
        writes again: those after its checkpoint, and of the evaluation that is due."""
        self.total = total_steps
        if self.out is None:
            return
        path = self.out / "metrics.jsonl"
        lost = keep_until(path, resumed_at, evaluation_due)
        if lost:
            self.info(f"{path}: dropped {lost} damaged line{'s' if lost > 1 else ''}")
        self.file = path
        if find_spec("tensorboard"):
            self.board = EventWriter(self.out / "tensorboard", resumed_at)
        if sys.stderr.isatty():
            self.bar, self.bar_task = progress_bar(total_steps, resumed_at)

    def metrics(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl (`kind` is train or val) and a point to each TensorBoard curve."""
        if self.file is None:
            return
        rounded = {key: float(f"{value:.6g}") for key, value in values.items()}
        append_bytes(self.file, (json.dumps({"step": step, "kind": kind, **rounded}) + "\n").encode())
        if self.board:
            self.board.add(step, {f"{kind}/{key}": value for key, value in values.items()})

    def progress(self, step: int, text: str, seconds_left: float) -> None:
        """Updates the progress bar; without a terminal, prints a line."""
        if self.bar:
            self.bar.update(self.bar_task, completed=step, status=text)
        else:
            self.info(f"step {step}/{self.total}  {text}  left {timedelta(seconds=round(seconds_left))}")

    def info(self, text: str) -> None:
        if self.out is None:
            return
        with suppress(OSError):  # a closed terminal or a full disk behind 2> must not end the run
            if self.bar:
                self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Prints from any rank."""
        if self.out is None:
            with suppress(OSError):
                print(text, file=sys.stderr, flush=True)
        else:
            self.info(text)

    def close(self) -> None:
        with suppress(OSError):
            if self.bar:
                self.bar.stop()


def keep_until(path: Path, step: int, evaluation_due: bool) -> int:
    """Drops the lines that a run resumed at `step` writes again: those of later steps, and of the evaluation at this
    step if it is due. Also drops damaged lines, which a killed run or a full disk leaves; returns their number."""
    if not path.exists():
        return 0
    kept, lost = [], 0
    for line in path.read_bytes().splitlines():
        entry = parse_line(line)
        if entry is None:
            lost += 1
        elif entry["step"] < step or (entry["step"] == step and not (evaluation_due and entry["kind"] == "val")):
            kept.append(f"{line.decode()}\n")
    write_text(path, "".join(kept))
    return lost


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The entry of a line of metrics.jsonl; None for a damaged one."""
    try:
        entry = json.loads(line.decode())
        return entry if entry["step"] >= 0 and entry["kind"] else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def progress_bar(total: int, start: int):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    metrics = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # a narrow terminal only cuts this column
    columns = (
        BarColumn(10),
        MofNCompleteColumn(table_column=Column(min_width=2 * len(str(total)) + 1, no_wrap=True)),
        TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
        TextColumn("{task.fields[status]}", table_column=metrics),
    )
    bar = Progress(*columns, console=Console(stderr=True), expand=True)
    task = bar.add_task("train", total=total, completed=start, status="first step …")
    bar.start()
    return bar, task


def record(out: Path, experiment: str, seed: int, device: torch.device, world: int) -> None:
    """Writes config.yaml, the resolved experiment, and run.json: time, command, device and versions."""
    write_text(out / CONFIG, experiment)
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
    result = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            result[package] = metadata.version(package)
    return result


def processor() -> str:
    """The CPU's name and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def git_revision() -> str | None:
    """The commit of the running checkout, with a + if it is modified; None for an installed package."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    git = lambda *words: subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True
    ).stdout.strip()
    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
