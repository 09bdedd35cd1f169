"""The interface of a training task: what the trainer asks of classification, detection and localization."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from resdet.engine.log import Log
from resdet.structures import Batch


class Training(Protocol):
    """Training batches on the device, without end, from any step."""

    steps_per_epoch: float

    def batches(self, first_step: int) -> Iterator[Batch]: ...


class TrainingTask(Protocol):
    """A model with its data: how it is trained and how it is judged."""

    model: nn.Module  # what is saved
    step: nn.Module  # step(*inputs) -> (losses, measures): dicts of scalar tensors; the losses are added up
    training: Training
    monitor: str  # the figure of `evaluate` that decides which checkpoint is best
    lower_is_better: bool

    def start_afresh(self, log: Log) -> None:
        """Prepares weights for a run that neither goes on nor starts from given ones."""

    def check_images(self, log: Log) -> None:
        """Reads the header of every image; raises an Error for a damaged one, unless the config skips such images."""

    def check_ground_truth(self) -> None:
        """Raises an Error for annotations that an evaluation would refuse."""

    def inputs(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """What the step module takes: the batch, mixed where the config says so."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Validation loss and figures, over all processes."""

    def keep(self, folder: Path) -> None:
        """Writes what the last evaluation gave, which was the best so far, beside its checkpoint."""

    def exact_statistics(self, model: nn.Module, images: int) -> None:
        """Averages batch norm's statistics over so many training images."""

    def name(self, index: int) -> str:
        """What to call a training image in an error."""

    def description(self) -> dict[str, Any]:
        """Plain values that a checkpoint must carry beside the weights, so that `resdet.load` can rebuild the model."""
