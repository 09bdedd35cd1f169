"""Timings of a benchmark as a table on stdout and as a JSON file, updated after each case."""

import sys
import time
from statistics import median
from typing import Any, cast

import torch

from resdet.engine.run_record import git_revision, processor, versions
from resdet.files.atomic import write_json
from resdet.timing import MEGABYTES, Case, Timer

WIDTH = 60  # column width of case names


class Report:
    """Collects cases; the file at `path`, if any, always contains all cases so far."""

    def __init__(self, path: str | None, rounds: int, device: str = "cpu"):
        self.path = path
        self.head = ""
        self.content: dict[str, Any] = {
            **circumstances(device),
            "threads": torch.get_num_threads(),
            "rounds": rounds,
            "cases": [],
        }
        self.write()

    def add(self, suite: str, case: Case, measured: dict[str, list[float]], timer: Timer | None = None) -> None:
        """Prints and records a row, preceded by a header if the suite, the unit or the sides change."""
        timings = {name: timing_of(case, name, measured) for name in case.sides}
        details = {name: timer.details(case.sides[name]) for name in measured} if timer else {}
        for name, values in details.items():
            cast(dict[str, Any], timings[name]).update(values)
        head = f"{f'{suite}, {case.unit}':<{WIDTH}}" + "".join(f"{name:>20}" for name in case.sides)
        if head != self.head:
            self.head = head
            print(f"\n{head}")
        cells = (f"{cell(timing, case.unit):>20}" for timing in timings.values())
        print(f"{case.name:<{WIDTH}}" + "".join(cells), flush=True)
        if case.note:
            print(f"  {case.note}", flush=True)
        for name, values in details.items():
            if values:
                print(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()), flush=True)
        self.content["cases"].append({"suite": suite, "case": case.name, "note": case.note, "sides": timings})
        self.write()

    def write(self) -> None:
        write_json(self.path, self.content)


def circumstances(device: str = "cpu") -> dict[str, Any]:
    """Returns the time, command, versions and hardware of a benchmark."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": ["resdet", *sys.argv[1:]],
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "git": git_revision(),
        "packages": versions(),
    }


def timing_of(case: Case, name: str, measured: dict[str, list[float]]) -> dict[str, Any] | str:
    """Returns the median of a side's rounds and its speedup over the first side, or the reason why it is missing."""
    if name not in measured:
        return cast(str, case.sides[name])
    middle = median(measured[name])
    result: dict[str, Any] = {MEGABYTES: middle} if case.unit == MEGABYTES else {"seconds": middle}
    if case.unit != MEGABYTES:
        result[case.unit] = in_unit(case, middle)
    result["rounds"] = measured[name]
    baseline = next(iter(case.sides))
    if baseline in measured:
        result["ratio"] = median(measured[baseline]) / middle
    return result


def in_unit(case: Case, seconds: float) -> float:
    """Converts the seconds of a call to the unit of the case."""
    return {"s": seconds, "ms": 1000 * seconds}.get(case.unit, case.count / seconds)


def cell(timing: dict[str, Any] | str, unit: str) -> str:
    if isinstance(timing, str):
        return timing
    ratio = f" ({timing['ratio']:.2f}x)" if "ratio" in timing else " " * 8
    return f"{format_value(timing[unit])}{ratio}"


def format_value(value: float) -> str:
    """Formats with at least three significant digits; one decimal from 10 up."""
    return f"{value:.1f}" if value >= 10 else f"{value:#.3g}"
