"""What all tasks have in common as the trainer sees them."""

from pathlib import Path
from typing import Iterator

from torch import Tensor, nn

from resdet.backbones.surgery import exact_batch_statistics
from resdet.engine.log import Log
from resdet.structures import Batch
from resdet.weights import loading
from resdet.weights.reading import Checkpoint


class BaseTask:
    """A task sets `experiment`, `model` and `training`."""

    def start_from(self, weights: str | Path | Checkpoint, log: Log) -> None:
        """Those of `--init`, but for what depends on other classes; the log says what came over."""
        log.say(str(loading.load(self.model, weights, new_classifier=True)))

    def load_exactly(self, weights: str) -> None:
        """Weights that must fit whole, for an evaluation."""
        loading.load(self.model, weights)

    def exact_statistics(self, model: nn.Module, images: int) -> None:
        """The backbone's, over augmented training images as the net saw them; the same ones at every evaluation."""
        steps = max(1, images // self.experiment.train.batch)

        def batches() -> Iterator[Tensor]:
            for _, batch in zip(range(steps), self.training.batches(0)):
                yield self.pixels(model, batch)

        exact_batch_statistics(model.backbone, batches())

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        """Normalised images of a training batch."""
        return model.normalise(batch.images)
