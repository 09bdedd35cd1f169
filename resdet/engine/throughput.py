"""Durations of steps: images per second, and the fraction of time spent waiting for data."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

WARM = 2  # first steps, which are not timed: they compile, allocate memory and search for algorithms
WINDOWS = 15  # number of last windows; their median is robust to the compilation of another shape

Batch = TypeVar("Batch")


class Throughput:
    """Times steps in windows, each between two calls of `read`, excluding pauses and the first WARM steps."""

    def __init__(self, batch: int, clock: Callable[[], float] = time.perf_counter):
        self.batch, self.clock = batch, clock
        self.total = 0  # steps, including the current one
        self.windows: deque[float] = deque(maxlen=WINDOWS)  # seconds per step
        self.reset()

    def reset(self) -> None:
        """Starts a window."""
        self.started = self.step_started = self.clock()
        self.waited, self.steps = 0.0, 0

    def next(self, batches: Iterator[Batch]) -> Batch:
        """Returns the batch of the next step; its time counts as waiting for data."""
        if self.total in (0, WARM):
            self.windows.clear()
            self.reset()
        self.step_started = self.clock()
        batch = next(batches)
        self.waited += self.clock() - self.step_started
        self.steps += 1
        self.total += 1
        return batch

    @property
    def warm(self) -> bool:
        """Whether steps are timed."""
        return self.total > WARM

    @contextmanager
    def pause(self) -> Iterator[None]:
        start = self.clock()
        yield
        self.started += self.clock() - start
        self.step_started += self.clock() - start

    def seconds_per_step(self) -> float:
        """Returns the mean of the current window."""
        return (self.clock() - self.started) / max(1, self.steps)

    def typical_step(self) -> float | None:
        """Returns the median seconds of a step; None during the first steps."""
        done = self.steps - 1  # excluding the current step
        if not (self.warm and (self.windows or done > 0)):
            return None
        return median(self.windows) if self.windows else (self.step_started - self.started) / done

    def read(self) -> dict[str, float]:
        """Ends a window and returns its rates; the device must have finished its steps."""
        spent = self.clock() - self.started
        self.windows.append(self.seconds_per_step())
        rates = {"images/s": self.steps * self.batch / spent, "data": self.waited / spent}
        self.reset()
        return rates
