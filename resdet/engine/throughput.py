"""Images per second, and the fraction of time spent waiting for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Batch = TypeVar("Batch")


class Throughput:
    """Measures between two calls of `read`, without pauses."""

    def __init__(self, batch: int):
        self.batch = batch
        self.reset()

    def reset(self) -> None:
        self.started, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; its time counts as waiting for data."""
        start = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - start
        self.steps += 1
        return batch

    @contextmanager
    def pause(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.started += time.perf_counter() - start

    def seconds_per_step(self) -> float:
        return (time.perf_counter() - self.started) / max(1, self.steps)

    def read(self) -> dict[str, float]:
        spent = time.perf_counter() - self.started
        result = {"images/s": self.steps * self.batch / spent, "data": self.waited / spent}
        self.reset()
        return result
