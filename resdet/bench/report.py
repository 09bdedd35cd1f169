"""The figures of a benchmark: a table that grows on the terminal, and a file that grows with it."""

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from resdet.bench.compare import Case
from resdet.engine.log import git_revision, processor, versions
from resdet.errors import ConfigError

BASELINE = "torchvision"
WIDTH = 52  # of a case's name


class Report:
    """Takes one case after the other; `path`, if any, holds at all times what was measured so far."""

    def __init__(self, path: str | None, rounds: int):
        self.path = path
        self.suite = None
        self.content: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "command": sys.argv,
            "device": processor(),
            "threads": torch.get_num_threads(),
            "git": git_revision(),
            "packages": versions(),
            "rounds": rounds,
            "cases": [],
        }
        self.write()

    def add(self, suite: str, case: Case, seconds: dict[str, list[float]]) -> None:
        """Prints a row, under a head where a suite begins, and keeps it."""
        figures = {name: figures_of(case, name, seconds) for name in case.sides}
        if suite != self.suite:
            self.suite = suite
            print(f"\n{suite + ', images/s':<{WIDTH}}" + "".join(f"{name:>20}" for name in case.sides))
        print(f"{case.name:<{WIDTH}}" + "".join(f"{cell(figure):>20}" for figure in figures.values()), flush=True)
        if case.note:
            print(f"  {case.note}", flush=True)
        self.content["cases"].append({"suite": suite, "case": case.name, "note": case.note, "sides": figures})
        self.write()

    def write(self) -> None:
        if self.path is None:
            return
        try:
            Path(self.path).write_text(json.dumps(self.content, indent=1), encoding="utf-8")
        except OSError as error:
            remedy = "name a file in a folder that exists"
            raise ConfigError(f"--json {self.path} cannot be written ({error.strerror}): {remedy}.") from None


def figures_of(case: Case, name: str, seconds: dict[str, list[float]]) -> dict[str, Any] | str:
    """The median of a side's rounds, and how many times as fast as torchvision that is; or why there is none."""
    if name not in seconds:
        return case.sides[name]
    middle = median(seconds[name])
    figures = {"seconds": middle, "images/s": case.images / middle, "rounds": seconds[name]}
    if BASELINE in seconds:
        figures["ratio"] = median(seconds[BASELINE]) / middle
    return figures


def cell(figures: dict[str, Any] | str) -> str:
    if isinstance(figures, str):
        return figures
    ratio = f" ({figures['ratio']:.2f}x)" if "ratio" in figures else " " * 8
    return f"{figures['images/s']:.1f}{ratio}"
