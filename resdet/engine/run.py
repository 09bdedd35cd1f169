"""A training run from the view of loggers and callbacks; does not import torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Run:
    """A training run."""

    folder: Path
    experiment: dict[str, Any]  # the resolved config
    model: "nn.Module"
    total: int  # number of steps
    step: int = 0  # steps done before: above 0 for a resumed run
    stop_requested: bool = False

    def stop(self) -> None:
        """Stops the run after the current step, like Ctrl-C: it saves last.pth, and --resume continues it."""
        self.stop_requested = True
