"""The remaining time of a run, and its steps as an activity of the progress display."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from resdet.progress import Activity, Display, duration

WINDOWS = 15  # last log intervals whose median is the time of a step: compiling another shape does not count


class Pace:
    """Estimates the remaining time from the steps, without the first one, and from the evaluations so far."""

    def __init__(self, total: int, evaluate_every: int, clock: Callable[[], float] = time.monotonic):
        """`evaluate_every` in steps."""
        self.total, self.every, self.clock = total, evaluate_every, clock
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

    def evaluations_left(self, step: int) -> int:
        """Those from this step on; the last step evaluates, too."""
        return -(-self.total // self.every) - max(step - 1, 0) // self.every

    def seconds_left(self, step: int) -> float | None:
        """With the evaluations to come, once one is measured; None before the second step."""
        if not (self.windows or self.steps):
            return None
        per_step = median(self.windows) if self.windows else self.seconds_per_step_of_window()
        evaluations = self.evaluations_left(step) * median(self.evaluations) if self.evaluations else 0.0
        return (self.total - step) * per_step + evaluations

    def left(self, step: int) -> str:
        """The remaining time in words."""
        seconds = self.seconds_left(step)
        if seconds is None:
            return "first step"
        count = self.evaluations_left(step)
        more = f" and {count} evaluation{'s' if count > 1 else ''}" if count and not self.evaluations else ""
        return f"{duration(seconds)}{more} left"


class Steps(Activity):
    """The steps of a run, with the last metrics."""

    def __init__(self, pace: Pace, step: int, display: Display | None = None):
        super().__init__("step", pace.total, "steps", step, display)
        self.pace, self.metrics = pace, ""

    def text(self) -> str:
        return f"step {self.done}/{self.total}, {self.pace.left(self.done)}  {self.metrics}".rstrip()
