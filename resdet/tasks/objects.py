"""What detection and localization, which look for objects in images, have in common as the trainer sees them."""

from typing import Any, Iterator

from torch import Tensor, nn

from resdet.backbones.surgery import exact_batch_statistics
from resdet.engine.log import Log
from resdet.models.detector import normalised
from resdet.structures import Batch, Images, Targets
from resdet.weights import loading, pretrained


class LossesStep(nn.Module):
    """What a training step computes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.model.losses(*inputs), {}


class ObjectsTask:
    """A task sets `experiment`, `source`, `model` and `training`."""

    def start_afresh(self, log: Log) -> None:
        """The backbone's ImageNet weights, where the config names some."""
        wanted = self.experiment.model.pretrained
        if wanted:
            log.say(str(pretrained.load(self.model, wanted, self.experiment.model.backbone.name)))

    def load_exactly(self, weights: str) -> None:
        """Weights that must fit whole, for an evaluation."""
        loading.load(self.model, weights)

    def inputs(self, batch: Batch, step: int) -> tuple[Images, Targets]:
        return batch.images, batch.targets

    def exact_statistics(self, model: nn.Module, images: int) -> None:
        """The backbone's, over augmented training images as the net saw them; the same ones at every evaluation."""
        steps = max(1, images // self.experiment.train.batch)

        def batches() -> Iterator[Tensor]:
            for _, batch in zip(range(steps), self.training.batches(0)):
                yield self.pixels(model, batch)

        exact_batch_statistics(model.backbone, batches())

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        """Normalised images of a training batch."""
        return normalised(model.normalise, batch.images)

    def name(self, index: int) -> str:
        return self.source.name(index)
