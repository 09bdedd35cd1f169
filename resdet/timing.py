"""Times several libraries on the same work in alternation, so that a temporary slowdown affects all of them."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

MIN_SECONDS = 0.5  # minimum duration of a round; shorter work is repeated
MAX_SECONDS = 20.0  # longer work is timed in the first round only

Side = Callable[[], Any] | str  # the work of one library, or the reason why the library cannot do it
MEGABYTES = "MB"  # unit of cases that measure memory


@dataclass
class Case:
    """The same work in several libraries, called sides; the first is the reference."""

    name: str
    count: int  # units of work (such as images) per call
    sides: Mapping[str, Side]
    note: str = ""  # remark for readers of the table
    unit: str = "images/s"  # or ms or s per call; MB: sides return the measured value
    warm: bool = True  # False: no warmup, for calls of seconds that compile nothing


class Timer:
    """Times calls with a host clock, for work that is complete when the call returns."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock

    def seconds(self, side: Callable[[], object], repeats: int) -> float:
        """Returns the mean seconds of `repeats` calls."""
        start = self.clock()
        for _ in range(repeats):
            side()
        return (self.clock() - start) / repeats

    def details(self, side: Side) -> dict[str, float]:
        """Returns further measurements of a side."""
        return {}


class CudaTimer(Timer):
    """Times calls between two CUDA events.

    `details` returns medians of the milliseconds until a call returns to Python, and of the peak memory allocated in
    addition to the memory in use before the call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enqueue: dict[Side, list[float]] = {}  # seconds
        self.memory: dict[Side, list[int]] = {}  # bytes

    def seconds(self, side: Callable[[], object], repeats: int) -> float:
        from torch import cuda

        start, end = (cuda.Event(enable_timing=True) for _ in range(2))
        cuda.synchronize()
        cuda.reset_peak_memory_stats()
        before = cuda.memory_allocated()
        start.record()
        enqueue = super().seconds(side, repeats)
        end.record()
        cuda.synchronize()
        self.enqueue.setdefault(side, []).append(enqueue)
        self.memory.setdefault(side, []).append(cuda.max_memory_allocated() - before)
        return start.elapsed_time(end) / 1000 / repeats

    def details(self, side: Side) -> dict[str, float]:
        return {"enqueue_ms": 1000 * median(self.enqueue[side]), "peak_gb": median(self.memory[side]) / 1e9}


def measure(case: Case, rounds: int, log: Callable[[str], None], timer: Timer | None = None) -> dict[str, list[float]]:
    """Returns the seconds per call, or the megabytes, of each side."""
    return measure_memory(case, log) if case.unit == MEGABYTES else compare(case, rounds, log, timer)


def measure_memory(case: Case, log: Callable[[str], None]) -> dict[str, list[float]]:
    """Returns the value of each available side."""
    megabytes = {}
    for name, side in case.sides.items():
        if callable(side):
            log(f"{case.name}: {name}")
            megabytes[name] = [side()]
    return megabytes


def compare(case: Case, rounds: int, log: Callable[[str], None], timer: Timer | None = None) -> dict[str, list[float]]:
    """Returns the seconds per call of each available side, one value per round; the sides alternate: A B C A B C …"""
    timer = timer or Timer()
    sides = {name: side for name, side in case.sides.items() if callable(side)}
    repeats = dict.fromkeys(sides, 1)
    for name in sides if case.warm else ():
        log(f"{case.name}: warming up {name}")
        repeats[name] = warm_up(sides[name], timer)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            if not seconds[name] or seconds[name][0] < MAX_SECONDS:
                seconds[name].append(timer.seconds(side, repeats[name]))
    return seconds


def warm_up(side: Callable[[], object], timer: Timer) -> int:
    """Calls the side once to compile and allocate; returns the number of calls per round."""
    side()
    return max(1, math.ceil(MIN_SECONDS / timer.seconds(side, 1)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Context manager that sets the number of torch's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
