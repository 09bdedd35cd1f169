"""What detection and localization, which look for objects in images, have in common as the trainer sees them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from resdet.detection.model import normalized
from resdet.engine.base_training import BaseTraining
from resdet.engine.log import Log
from resdet.images.decode import Source
from resdet.structures import Batch, Images, Targets
from resdet.weights import pretrained

RESULTS, PICTURES = "results.json", "pictures"  # what the best evaluation leaves beside its checkpoint
SHOWN = 24  # validation images that are drawn


class LossesStep(nn.Module):
    """What a training step computes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.model.losses(*inputs), {}


class ObjectsTraining(BaseTraining):
    """A task sets `source` and `validation` as well."""

    def sources(self) -> Mapping[str, Source]:
        return {"training": self.source, "validation": self.validation}

    def initialize(self, log: Log) -> None:
        """The backbone's ImageNet weights, where the config names some."""
        model = self.experiment.model
        if model.pretrained:
            log.info(str(pretrained.load(self.model, model.pretrained, model.backbone.name)))
        elif model.freeze_stages or getattr(model.backbone, "norm", None) == "frozen":
            log.info(
                "the backbone starts from random weights, and parts of it that are frozen (model.freeze_stages, "
                "model.backbone.norm) stay random: name its weights by --init or model.pretrained"
            )

    def inputs(self, batch: Batch, step: int) -> tuple[Images, Targets]:
        return batch.images, batch.targets

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        return normalized(model.normalize, batch.images)

    def name(self, index: int) -> str:
        return self.source.name(index)


def with_total(losses: dict[str, float]) -> dict[str, float]:
    """Validation losses as figures of an evaluation, their sum first."""
    return {"loss": sum(losses.values()), **losses} if losses else {}
