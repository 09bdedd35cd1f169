"""The log of a run: lines on stderr, metrics.jsonl and loggers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from resdet.engine.loggers.registry import Logger
from resdet.engine.metrics_file import METRICS, append, keep_until
from resdet.engine.run import Run
from resdet.errors import FileError, number_of, one_line
from resdet.progress import say


class Log:
    """Prints from the start, and writes to `out` after `open`; silent if `out` is None (all ranks except 0)."""

    def __init__(self, out: Path | None):
        self.out = out
        self.file: Path | None = None
        self.loggers: list[Logger] = []

    def open(self, resumed_at: int, evaluation_due: bool = False) -> None:
        """Opens metrics.jsonl; drops the metrics that a resumed run writes again: those after its checkpoint, and those
        of a pending evaluation."""
        if self.out is None:
            return
        path = self.out / METRICS
        lost = keep_until(path, resumed_at, evaluation_due)
        if lost:
            self.info(f"{path}: dropped {number_of(lost, 'damaged line')}")
        self.file = path

    def add_loggers(self, loggers: Sequence[Logger], run: Run) -> None:
        """Opens loggers, which may read metrics.jsonl: call it after `open`."""
        for logger in loggers:
            logger.open(run)
            self.loggers.append(logger)

    def metrics(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl (`kind` is train or val) and passes the values to the loggers."""
        if self.file is not None:
            append(self.file, step, kind, values)
        self.each(lambda logger: logger.metrics(step, kind, {**values}))

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Passes images, uint8 [H, W, 3] by name, to the loggers."""
        self.each(lambda logger: logger.images(step, {**images}))

    def each(self, call: Callable[[Logger], None]) -> None:
        """Calls all loggers; removes a logger that fails, for example without a network."""
        for logger in list(self.loggers):
            try:
                call(logger)
            except FileError:
                raise  # a full disk ends the run
            except Exception as error:
                self.loggers.remove(logger)
                self.warn(
                    f"{type(logger).__name__} failed and is off until the run is resumed ({type(error).__name__}: "
                    f"{one_line(str(error))}); metrics.jsonl has all values"
                )

    def info(self, text: str) -> None:
        if self.out is not None:
            say(text)

    def warn(self, text: str) -> None:
        """Prints on any rank."""
        say(text)

    def close(self, complete: bool = True) -> None:
        """Closes the loggers; `complete`: whether the run is complete, or may be resumed."""
        self.each(lambda logger: logger.close(complete))
        self.loggers.clear()
