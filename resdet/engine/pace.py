"""The position of a run in its schedule."""

import math
import time
from collections.abc import Callable
from typing import Any

EARLY = (5, 10, 20)  # steps after which the speed is fitted, in addition to logged steps
EVALUATING = 0.5  # maximum share of evaluations in the time of a run


class Pace:
    """Tracks the position in the schedule, which advances by `speed` schedule steps per step of the run.

    The speed is 1, unless `minutes` (`train.minutes`) limits the run: then the speed is fitted to end the run in time,
    which stretches or compresses all lengths of the config alike, including milestones, warmup and intervals. It is
    refitted repeatedly to the remaining time, so that the learning rate stays a continuous function of the position.
    """

    def __init__(
        self,
        total: int,
        evaluate_every: float,
        minutes: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`total` and `evaluate_every` are in schedule steps."""
        self.total, self.evaluate_every, self.clock = total, evaluate_every, clock
        self.least_interval = evaluate_every  # with `minutes`, `evaluate_every` may become a multiple of it
        self.budget = None if minutes is None else 60 * minutes
        self.position, self.before, self.speed = 0.0, 0.0, 1.0
        self.fits = self.budget is None  # whether the speed is fitted to the budget
        self.evaluation = 0.0  # seconds of the last evaluation
        self.started = clock()  # moved back by the time of earlier starts of the run

    def advance(self) -> None:
        self.before = self.position
        self.position += self.speed

    @property
    def done(self) -> bool:
        return self.remaining == 0

    @property
    def remaining(self) -> int:
        """Remaining steps of the run."""
        return max(0, round((self.total - self.position) / self.speed))

    @property
    def evaluations_left(self) -> int:
        """Remaining evaluations, including a pending one at this position until `conclude_evaluation`."""
        return self.evaluations_after(self.evaluate_every) + self.crossed(self.evaluate_every)

    def evaluations_after(self, interval: float) -> int:
        """Returns the number of evaluations after this position, including the one at the end of the schedule."""
        multiples = self.count(interval, self.total)
        at_end = multiples == self.count(interval, self.total - 1)  # the last evaluation, if `total` is not a multiple
        return multiples + at_end - self.count(interval, self.position)

    def crossed(self, interval: float) -> bool:
        """Whether the last step reached a multiple of `interval`, in schedule steps."""
        return self.count(interval, self.position) > self.count(interval, self.before)

    def conclude_evaluation(self, seconds: float) -> None:
        self.evaluation, self.before = seconds, self.position

    def count(self, interval: float, position: float) -> int:
        return math.floor(position / interval + 1e-9)

    def fits_after(self, step: int, log_every: int) -> bool:
        """Whether to fit the speed after this step of the run."""
        due = step in EARLY or (step > max(EARLY) and step % log_every == 0)
        return self.budget is not None and due and not self.done

    @property
    def refits(self) -> bool:
        """Whether to refit the speed after an evaluation, whose duration may have changed."""
        return self.budget is not None and self.fits and not self.done

    def adopt(self, speed: float, evaluate_every: float) -> None:
        """Sets the result of `fitted`."""
        self.speed, self.evaluate_every, self.fits = speed, evaluate_every, True

    def fitted(self, seconds_per_step: float) -> tuple[float, float]:
        """Returns the speed that ends the run in time at this step duration, and the interval of its evaluations."""
        assert self.budget is not None
        left, rest = self.started + self.budget - self.clock(), max(1e-9, self.total - self.position)
        shortest = self.evaluation * rest / max(1e-9, EVALUATING * left)
        interval = max(self.evaluate_every, self.least_interval * math.ceil(shortest / self.least_interval))
        left -= self.evaluations_after(interval) * self.evaluation
        return rest / max(1.0, left / seconds_per_step), interval

    def state_dict(self) -> dict[str, Any]:
        """Returns the state; without a budget it contains no times, so that equal runs have equal checkpoints."""
        if self.budget is None:
            return {"position": self.position}
        return {
            "position": self.position,
            "speed": self.speed,
            "evaluation": self.evaluation,
            "stretch": round(self.evaluate_every / self.least_interval),
            "seconds": self.clock() - self.started,
        }

    def load_state_dict(self, state: dict[str, Any], scale: float = 1.0) -> None:
        """Loads a state; that of a run without a budget contains only the position. `scale`: steps of this schedule per
        step of the saved one."""
        self.position = state["position"] * scale
        self.evaluation = state.get("evaluation", 0.0)
        self.started = self.clock() - state.get("seconds", 0.0)
        if self.budget is not None and "speed" in state:
            self.adopt(state["speed"], self.least_interval * state.get("stretch", 1))
