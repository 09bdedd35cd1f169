"""Callbacks: code of one's own at points of a run, named by `train.callbacks`; imports no torch.

A logger receives values and can fail without harm; a callback may act on the run, so its exceptions end the run.
"""

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from resdet.engine.run import Run
from resdet.errors import Error
from resdet.registry import Registry


class Callback:
    """The base class of callbacks, whose methods do nothing.

    They are called on rank 0 only, so they must not call collective operations. `run.stop()` of `on_train_start`'s
    argument stops the run. An exception ends the run after its state is saved.
    """

    def on_train_start(self, run: Run) -> None:
        """Before the first step, also of a resumed run."""

    def on_step_end(self, step: int, values: Mapping[str, float]) -> None:
        """After each step. `values` are those of the log line, if this step has one (`train.log_every`), else empty."""

    def on_evaluation_end(self, step: int, metrics: Mapping[str, float]) -> None:
        """After an evaluation, whose checkpoints are written."""

    def on_checkpoint(self, path: Path) -> None:
        """After last.pth or best.pth is written."""

    def on_train_end(self) -> None:
        """After the last step, or a stop; not after an error."""


callbacks: Registry[type[Callback]] = Registry("callback", "train.callbacks")
register_callback = callbacks.register


class Callbacks:
    """The callbacks of a run; keeps the first exception until the trainer has saved its state."""

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
        """Calls a method of all callbacks, unless one has failed."""
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
