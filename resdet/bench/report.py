"""The figures of a benchmark: a table that grows on the terminal, and a file that grows with it."""

import sys
import time
from statistics import median
from typing import Any

import torch

from resdet.engine.log import git_revision, processor, versions
from resdet.files.atomic import write_json
from resdet.timing import MEGABYTES, Case

WIDTH = 60  # of a case's name


class Report:
    """Takes one case after the other; `path`, if any, holds at all times what was measured so far."""

    def __init__(self, path: str | None, rounds: int):
        self.path = path
        self.head = ""
        self.content: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "command": ["resdet", *sys.argv[1:]],
            "device": processor(),
            "threads": torch.get_num_threads(),
            "git": git_revision(),
            "packages": versions(),
            "rounds": rounds,
            "cases": [],
        }
        self.write()

    def add(self, suite: str, case: Case, measured: dict[str, list[float]]) -> None:
        """Prints a row, under a head where a suite, its unit or its sides change, and keeps it."""
        figures = {name: figures_of(case, name, measured) for name in case.sides}
        head = f"{f'{suite}, {case.unit}':<{WIDTH}}" + "".join(f"{name:>20}" for name in case.sides)
        if head != self.head:
            self.head = head
            print(f"\n{head}")
        cells = (f"{cell(figure, case.unit):>20}" for figure in figures.values())
        print(f"{case.name:<{WIDTH}}" + "".join(cells), flush=True)
        if case.note:
            print(f"  {case.note}", flush=True)
        self.content["cases"].append({"suite": suite, "case": case.name, "note": case.note, "sides": figures})
        self.write()

    def write(self) -> None:
        write_json(self.path, self.content)


def figures_of(case: Case, name: str, measured: dict[str, list[float]]) -> dict[str, Any] | str:
    """The median of a side's rounds, and how many times less that is than the first side's; or why there is none."""
    if name not in measured:
        return case.sides[name]
    middle = median(measured[name])
    if case.unit == MEGABYTES:
        figures = {MEGABYTES: middle}
    else:
        figures = {"seconds": middle, case.unit: in_unit(case, middle)}
    figures["rounds"] = measured[name]
    baseline = next(iter(case.sides))
    if baseline in measured:
        figures["ratio"] = median(measured[baseline]) / middle
    return figures


def in_unit(case: Case, seconds: float) -> float:
    """Of a call that takes so long."""
    return {"s": seconds, "ms": 1000 * seconds}.get(case.unit, case.count / seconds)


def cell(figures: dict[str, Any] | str, unit: str) -> str:
    if isinstance(figures, str):
        return figures
    ratio = f" ({figures['ratio']:.2f}x)" if "ratio" in figures else " " * 8
    return f"{readable(figures[unit])}{ratio}"


def readable(value: float) -> str:
    """Three digits at least, and one behind the point where there is room."""
    return f"{value:.1f}" if value >= 10 else f"{value:#.3g}"
