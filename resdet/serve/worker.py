"""The thread that runs a model: takes prepared images from a queue and predicts them in batches."""

import logging
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread
from typing import Any

import numpy as np

from resdet.model import Prepared
from resdet.serve.limits import Limits, Refused
from resdet.serve.metrics import Metrics

# Shared by all nets of the process: they use one device, and no net may run while dynamo traces another.
DEVICE = Lock()
log = logging.getLogger("resdet")


@dataclass(eq=False)
class Item:
    """An image in the queue."""

    predictor: Any  # prepared the image and will predict it
    prepared: Prepared
    score: float | None
    top: int | None
    decoded: float = 0.0  # seconds
    result: Future[Any] = field(default_factory=Future)
    arrived: float = 0.0  # time of arrival in the queue
    queued: float = 0.0  # seconds
    predicted: float = 0.0  # seconds of inference for the whole batch

    @property
    def group(self) -> Hashable:
        """Items of the same group can share a batch."""
        return id(self.predictor), self.prepared.shape, self.score is None


class Worker(Thread):
    """Predicts the images of one model, up to `max_batch` together; waits at most `max_wait` for others."""

    def __init__(self, name: str, limits: Limits, metrics: Metrics):
        super().__init__(name=f"resdet-{name}", daemon=True)
        self.model, self.limits, self.metrics = name, limits, metrics
        self.items: list[Item] = []
        self.admitted = 0  # images in progress, including those being read or decoded
        self.changed = Condition()
        self.stopping = False

    def submit(self, item: Item) -> None:
        item.arrived = time.monotonic()
        with self.changed:
            self.items.append(item)
            self.changed.notify()

    def stop(self) -> None:
        """Ends the thread once the queue is empty."""
        with self.changed:
            self.stopping = True
            self.changed.notify()

    def run(self) -> None:
        while batch := self.next_batch():
            self.predict(batch)
            del batch  # otherwise, its images stay in memory until the next batch

    def next_batch(self) -> list[Item]:
        """Waits for a batch from the group of the oldest image; returns an empty batch at the end."""
        with self.changed:
            while True:
                waiting = [item for item in self.items if not item.result.cancelled()]
                self.count_dropped(len(self.items) - len(waiting))
                self.items = waiting
                if not self.items and self.stopping:
                    return []
                batch = [item for item in self.items if item.group == self.items[0].group][: self.limits.max_batch]
                if batch and self.is_due(batch):
                    self.items = [item for item in self.items if item not in batch]
                    return batch
                self.changed.wait(batch[0].arrived + self.limits.max_wait - time.monotonic() if batch else None)

    def is_due(self, batch: Sequence[Item]) -> bool:
        """Whether the batch is full, no other image is in progress, or the oldest image has waited long enough."""
        if len(batch) == self.limits.max_batch or len(self.items) >= self.admitted or self.stopping:
            return True
        return time.monotonic() - batch[0].arrived >= self.limits.max_wait

    def predict(self, batch: Sequence[Item]) -> None:
        """Sets the results or errors of a batch; skips images of ended requests."""
        with DEVICE:
            running = [item for item in batch if item.result.set_running_or_notify_cancel()]
            self.count_dropped(len(batch) - len(running))
            if not running:
                return
            start = time.monotonic()
            results = self.attempt(running)
        end = time.monotonic()
        self.metrics.observe("resdet_batch_images", len(running), model=self.model)
        for item, result in zip(running, results):
            item.queued, item.predicted = start - item.arrived, end - start
            if isinstance(result, Refused):
                item.result.set_exception(result)
            else:
                item.result.set_result(result)

    def count_dropped(self, number: int) -> None:
        self.metrics.count("resdet_dropped_images_total", number, model=self.model)

    def attempt(self, batch: Sequence[Item]) -> list[Any]:
        """Returns the result or refusal of each image; predicts the images of a failed batch one by one.

        The exception is not kept, since its traceback holds the images in memory.
        """
        try:
            return run(batch)
        except Exception:
            if len(batch) == 1:
                log.exception("%s failed", self.model)
                return [Refused(500, f"{self.model} failed at this image: see the server's log.")]
        return [self.attempt([item])[0] for item in batch]


def run(batch: Sequence[Item]) -> list[Any]:
    """Predicts with the lowest `score` and the highest `top` of the batch, then selects the results of each image."""
    scores = [item.score for item in batch if item.score is not None]
    tops = [item.top for item in batch if item.top is not None]
    results = batch[0].predictor.predict_prepared(
        [item.prepared for item in batch], score=min(scores, default=None), top=max(tops, default=None)
    )
    return [select(result, item.score, item.top) for result, item in zip(results, batch)]


def select(result: Any, score: float | None, top: int | None) -> Any:
    """Selects the first `top` entries with at least this score."""
    return result.select(np.flatnonzero(result.scores >= (score or 0))[:top])
