"""Callbacks: user code that runs at fixed points of a run, selected by `train.callbacks`; does not import torch.

A logger only receives values, and its failure does not end the run. A callback may control the run, so its exceptions
end it.
"""

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from resdet.engine.run import Run
from resdet.errors import Error
from resdet.registry import Registry


class Callback:
    """Base class of callbacks; its methods do nothing.

    Callbacks run on rank 0 only, so they must not call collective operations. To stop the run, call `run.stop()` of the
    run passed to `on_train_start`. An exception ends the run after its state is saved.
    """

    def on_train_start(self, run: Run) -> None:
        """Called before the first step, including that of a resumed run."""

    def on_step_end(self, step: int, values: Mapping[str, float]) -> None:
        """Called after each step. `values` are those of the log line (`train.log_every`); empty for other steps."""

    def on_evaluation_end(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called after an evaluation, when its checkpoints are written."""

    def on_checkpoint(self, path: Path) -> None:
        """Called after last.pth or best.pth is written."""

    def on_train_end(self) -> None:
        """Called after the last step, or a stop; not after an error."""


callbacks: Registry[type[Callback]] = Registry("callback", "train.callbacks")
register_callback = callbacks.register


class Callbacks:
    """The callbacks of a run; stores the first exception until the trainer has saved its state."""

    def __init__(self, members: Sequence[Callback] = (), run: Run | None = None):
        self.members, self.run = members, run
        self.failure: Error | None = None

    @property
    def stop_requested(self) -> bool:
        return self.failure is not None or (self.run is not None and self.run.stop_requested)

    def train_start(self) -> None:
        if self.run is not None:
            self.call("on_train_start", self.run)

    def call(self, hook: str, *arguments: object) -> None:
        """Calls a method of all callbacks, until one fails."""
        for member in self.members:
            if self.failure is None:
                self.call_one(member, hook, arguments)

    def call_one(self, member: Callback, hook: str, arguments: tuple[object, ...]) -> None:
        try:
            getattr(member, hook)(*arguments)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.failure = Error(
                f"The callback {type(member).__name__} failed in {hook} ({type(error).__name__}: {error}, "
                f"{Path(place.filename).name} line {place.lineno}): correct it, or remove it from train.callbacks."
            )
            self.failure.__cause__ = error
