"""The interface of loggers and their registry, selected by `train.loggers`; does not import torch.

@resdet.engine.register_logger("mine")
class Mine:
    def open(self, run): ...
    def metrics(self, step, kind, values): ...
    def images(self, step, images): ...
    def close(self, complete): ...
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from resdet.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from resdet.engine.run import Run


class Logger(Protocol):
    """Receives the metrics and pictures of a run on rank 0.

    The constructor imports the required packages, because it is called before any data is opened. An exception in
    `open` ends the run; one in another method disables the logger with a warning.
    """

    def open(self, run: "Run") -> None:
        """Opens the run; a resumed one (`run.step` > 0) continues from its checkpoint, and logs later steps again."""

    def metrics(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Logs values by name; `kind` is train or val."""

    def images(self, step: int, images: "Mapping[str, np.ndarray]") -> None:
        """Logs pictures of an evaluation by name, uint8 RGB [H, W, 3]."""

    def close(self, complete: bool) -> None:
        """Ends the log; `complete`: whether the run is complete, or `--resume` may continue it."""


class LoggerBuilder(Protocol):
    """Returns a logger without a run."""

    def __call__(self) -> Logger: ...


HERE = "resdet.engine.loggers"
loggers: Registry[LoggerBuilder] = Registry(
    "logger",
    "train.loggers",
    {
        "tensorboard": f"{HERE}.tensorboard:TensorBoardLogger",
        "csv": f"{HERE}.csv:CsvLogger",
        "wandb": f"{HERE}.wandb:WandbLogger",
        "mlflow": f"{HERE}.mlflow:MlflowLogger",
    },
)
register_logger = loggers.register
