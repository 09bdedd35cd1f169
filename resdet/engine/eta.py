"""The remaining time of a run, and the progress display of its steps."""

from resdet.engine.pace import Pace
from resdet.engine.throughput import Throughput
from resdet.errors import number_of
from resdet.progress import Activity, Display, duration


class Remaining:
    """Estimates the remaining time from the durations of a step and of the last evaluation."""

    def __init__(self, pace: Pace, throughput: Throughput):
        self.pace, self.throughput = pace, throughput

    def seconds(self) -> float | None:
        """Returns the remaining seconds, including evaluations once one is measured; None during the first steps, and
        until the speed is fitted to `train.minutes`."""
        if not self.pace.fits:
            return None
        step = self.throughput.typical_step() if self.pace.remaining else 0.0
        return None if step is None else self.pace.remaining * step + self.pace.evaluations_left * self.pace.evaluation

    def __str__(self) -> str:
        seconds = self.seconds()
        if seconds is None:
            return "first steps"
        count = self.pace.evaluations_left
        more = f" and {number_of(count, 'evaluation')}" if count and not self.pace.evaluation else ""
        return f"{duration(seconds)}{more} left"


class Steps(Activity):
    """The progress display of a run's steps, with the last metrics."""

    def __init__(self, remaining: Remaining, step: int, total: int, display: Display | None = None):
        super().__init__("step", total, "steps", step, display)
        self.remaining, self.metrics = remaining, ""

    def text(self) -> str:
        total = f"/{self.total}" if self.remaining.pace.fits else ""
        return f"step {self.done}{total}, {self.remaining}  {self.metrics}".rstrip()
