"""Logs of a run: lines on stderr, metrics.jsonl, loggers, and a record of its settings."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet import __version__
from resdet.engine.loggers.registry import Logger
from resdet.engine.metrics_file import METRICS, append, keep_until
from resdet.engine.restart import torchrun_id
from resdet.engine.run import Run
from resdet.errors import FileError, one_line
from resdet.files.atomic import write_json, write_text
from resdet.progress import say

CONFIG = "config.yaml"  # the resolved experiment of a run
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "timm")


class Log:
    """Prints from the start, and writes to `out` after `open`; silent if `out` is None (all ranks but 0)."""

    def __init__(self, out: Path | None):
        self.out = out
        self.file: Path | None = None
        self.loggers: list[Logger] = []

    def open(self, resumed_at: int, evaluation_due: bool = False) -> None:
        """Opens metrics.jsonl; drops the metrics that a resumed run writes again: those after its checkpoint, and of
        the evaluation that is due."""
        if self.out is None:
            return
        path = self.out / METRICS
        lost = keep_until(path, resumed_at, evaluation_due)
        if lost:
            self.info(f"{path}: dropped {lost} damaged line{'s' if lost > 1 else ''}")
        self.file = path

    def add_loggers(self, loggers: Sequence[Logger], run: Run) -> None:
        """Opens loggers, after `open`: they may read metrics.jsonl."""
        for logger in loggers:
            logger.open(run)
            self.loggers.append(logger)

    def metrics(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl (`kind` is train or val) and passes the values to the loggers."""
        if self.file is not None:
            append(self.file, step, kind, values)
        self.each(lambda logger: logger.metrics(step, kind, {**values}))

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Passes pictures uint8 [H, W, 3] by name to the loggers."""
        self.each(lambda logger: logger.images(step, {**images}))

    def each(self, call: Callable[[Logger], None]) -> None:
        """Calls all loggers; one that fails, for example without network, is turned off."""
        for logger in list(self.loggers):
            try:
                call(logger)
            except FileError:
                raise  # a full disk ends the run
            except Exception as error:
                self.loggers.remove(logger)
                self.warn(
                    f"{type(logger).__name__} failed and is off until the run is resumed ({type(error).__name__}: "
                    f"{one_line(str(error))}); metrics.jsonl has all values"
                )

    def info(self, text: str) -> None:
        if self.out is not None:
            say(text)

    def warn(self, text: str) -> None:
        """Prints from any rank."""
        say(text)

    def close(self, complete: bool = True) -> None:
        """Closes the loggers of a run that is complete, or that may be resumed."""
        self.each(lambda logger: logger.close(complete))
        self.loggers.clear()


def record(out: Path, experiment: str, seed: int, device: torch.device, world: int) -> None:
    """Writes config.yaml, the resolved experiment, and run.json: time, command, device and versions."""
    write_text(out / CONFIG, experiment)
    facts: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": sys.argv,
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processes": world,
        "torchrun": torchrun_id(),
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
    """The commit of the running checkout, with a + if it is modified.

    None for an installed package, without git, and where git refuses the checkout as that of another user.
    """
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    git = lambda *words: subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
