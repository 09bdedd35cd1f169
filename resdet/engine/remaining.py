"""The remaining time of a run, and its steps as an activity of the progress display."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from resdet.engine.pace import Pace
from resdet.progress import Activity, Display, duration

WINDOWS = 15  # last log intervals whose median is the time of a step: compiling another shape does not count


class Remaining:
    """Estimates the remaining time from the steps, without the first one, and from the evaluations so far."""

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic):
        self.pace, self.clock = pace, clock
        self.started: float | None = None  # of the current window; None before the end of the first step
        self.steps = 0  # of the current window
        self.windows: deque[float] = deque(maxlen=WINDOWS)  # seconds per step
        self.evaluations: list[float] = []  # seconds

    def count_step(self) -> None:
        """Counts a step; the first one, which compiles, only starts the clock."""
        if self.started is None:
            self.started = self.clock()
        else:
            self.steps += 1

    def close_window(self) -> None:
        """Ends a window, when the device has done its steps."""
        if self.steps:
            self.windows.append(self.seconds_per_step_of_window())
            self.started, self.steps = self.clock(), 0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time that is none of a step."""
        start = self.clock()
        yield
        if self.started is not None:
            self.started += self.clock() - start

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        start = self.clock()
        with self.pause():
            yield
        self.evaluations.append(self.clock() - start)

    def seconds_per_step_of_window(self) -> float:
        assert self.started is not None
        return (self.clock() - self.started) / self.steps

    def seconds(self) -> float | None:
        """With the evaluations to come, once one is measured; None before the second step."""
        if not (self.windows or self.steps):
            return None
        per_step = median(self.windows) if self.windows else self.seconds_per_step_of_window()
        evaluations = self.pace.evaluations_left * median(self.evaluations) if self.evaluations else 0.0
        return self.pace.remaining * per_step + evaluations

    def __str__(self) -> str:
        seconds = self.seconds()
        if seconds is None:
            return "first step"
        count = self.pace.evaluations_left
        more = f" and {count} evaluation{'s' if count > 1 else ''}" if count and not self.evaluations else ""
        return f"{duration(seconds)}{more} left"


class Steps(Activity):
    """The steps of a run, with the last metrics."""

    def __init__(self, remaining: Remaining, step: int, total: int, display: Display | None = None):
        super().__init__("step", total, "steps", step, display)
        self.remaining, self.metrics = remaining, ""

    def text(self) -> str:
        return f"step {self.done}/{self.total}, {self.remaining}  {self.metrics}".rstrip()
