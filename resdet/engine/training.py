"""The interface between the trainer and the training tasks: classification, detection and localization."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from resdet.engine.log import Log
from resdet.structures import Batch


class Training(Protocol):
    """An endless stream of training batches on the device, from any step."""

    steps_per_epoch: float

    def batches(self, first_step: int) -> Iterator[Batch]: ...


class TrainingTask(Protocol):
    """A model with its data, losses and evaluation."""

    experiment: Any  # an instance of the task's class, with all `auto` keys resolved
    model: nn.Module  # the module saved in checkpoints; an instance of the task's class
    step: nn.Module  # step(*inputs) -> (losses, measures): dicts of scalar tensors; the trainer sums the losses
    training: Training
    monitor: str  # the metric of `evaluate` that selects the best checkpoint, unless `train.monitor` names another

    def initialize(self, log: Log) -> None:
        """Initializes the weights of a run without --init and --resume."""

    def load_strict(self, weights: str) -> list[str]:
        """Loads weights for an evaluation, which must match all layers."""

    def check_images(self, log: Log) -> None:
        """Reads the header of every image; raises an Error for a damaged one, unless the config skips such images."""

    def monitors(self) -> list[str]:
        """Returns the metrics of `evaluate` that `train.monitor` may name; raises an Error for annotations that the
        evaluation would reject."""

    def inputs(self, batch: Batch, step: int) -> tuple[Any, ...]:
        """Returns the arguments of the step module: the batch, mixed if configured."""

    def evaluate(self, model: Any) -> dict[str, float]:
        """Returns validation losses and metrics over all processes."""

    def lower_is_better(self, metric: str) -> bool:
        """Whether a lower value of this metric of the last evaluation is better."""

    def keep(self, folder: Path) -> None:
        """Writes the results of the last evaluation, the best so far, next to its checkpoint."""

    def train_images(self, count: int) -> list[np.ndarray]:
        """Draws the first training images, as augmented, with their labels, uint8 RGB [H, W, 3]; called on rank 0."""

    def pictures(self, count: int) -> dict[str, np.ndarray]:
        """Draws the first `count` validation images with the results of the last evaluation and the ground truth, uint8
        RGB [H, W, 3] by name; called on rank 0."""

    def exact_statistics(self, model: nn.Module, images: int) -> None:
        """Recomputes batch norm statistics over this number of training images."""

    def name(self, index: int) -> str:
        """Returns the name of a training image for errors."""

    def description(self) -> dict[str, Any]:
        """Returns plain values for checkpoints; `resdet.load` rebuilds the model from them and the weights."""
