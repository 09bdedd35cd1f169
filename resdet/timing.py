"""Times the same work by several libraries in turns, so that a slow moment of the machine hits all of them."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LEAST_SECONDS = 0.5  # shorter work is repeated within a round until it takes so long
PATIENCE = 20.0  # seconds: longer work is timed in the first round alone

Side = Callable[[], object] | str  # what a library does in a call, or why it cannot
MEGABYTES = "MB"  # the unit of what is weighed and not timed


@dataclass
class Case:
    """The same work by several sides, named by their library; the first is what the others are compared with."""

    name: str
    count: int  # of what the unit counts, worked on in a call
    sides: dict[str, Side]
    note: str = ""  # what a reader of the figures must know
    unit: str = "images/s"  # or ms, s: of a call; MB: what a side returns is its figure
    warm: bool = True  # False where nothing is compiled and a call takes seconds: the first one counts


def measure(case: Case, rounds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds, or what the case's unit is where sides are not timed."""
    return weigh(case, say) if case.unit == MEGABYTES else compare(case, rounds, say)


def weigh(case: Case, say: Callable[[str], None]) -> dict[str, list[float]]:
    """What each side that can returns."""
    figures = {}
    for name, side in case.sides.items():
        if callable(side):
            say(f"{case.name}: {name}")
            figures[name] = [side()]
    return figures


def compare(
    case: Case, rounds: int, say: Callable[[str], None], clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds a call takes each side that can, one figure a round; the rounds go A B C A B C …"""
    sides = {name: side for name, side in case.sides.items() if callable(side)}
    repeats = dict.fromkeys(sides, 1)
    for name in sides if case.warm else ():
        say(f"{case.name}: warming up {name}")
        repeats[name] = warm_up(sides[name], clock)
    seconds = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            if not seconds[name] or seconds[name][0] < PATIENCE:
                seconds[name].append(seconds_of(side, repeats[name], clock))
    return seconds


def warm_up(side: Callable[[], object], clock: Callable[[], float]) -> int:
    """Calls until nothing is left to compile or to allocate; returns how many calls fill a round."""
    side()
    return max(1, math.ceil(LEAST_SECONDS / seconds_of(side, 1, clock)))


def seconds_of(side: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """The mean of so many calls."""
    start = clock()
    for _ in range(repeats):
        side()
    return (clock() - start) / repeats


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While it lasts, torch works with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
