"""Base class of the training tasks with objects: detection and localization."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn

from resdet.compilation import GRAPHS, CompiledPerShape
from resdet.detection.model import normalized
from resdet.engine.base_training import BaseTraining
from resdet.engine.log import Log
from resdet.images.decode import Source
from resdet.images.normalize import Normalize
from resdet.structures import Batch, Images, Targets
from resdet.weights import pretrained

RESULTS, PICTURES = "results.json", "pictures"  # of the best evaluation, next to its checkpoint
PICTURE_COUNT = 24  # validation images with drawn detections


class HasLosses(Protocol):
    """A model, an `nn.Module`, that computes its losses."""

    @property
    def losses(self) -> Callable[..., dict[str, Tensor]]: ...


class LossesStep(nn.Module):
    """Step module that computes a model's losses and no metrics; compiled into at most `graphs` graphs."""

    model: HasLosses

    def __init__(self, model: HasLosses, graphs: int = GRAPHS):
        super().__init__()
        self.model, self.graphs = model, graphs

    def compile(self, **options: Any) -> None:  # type: ignore[override]
        """Compiles one graph per shape of images and targets."""
        self.forward = CompiledPerShape(self.forward, limit=self.graphs, **options)  # type: ignore[method-assign]

    def forward(self, *inputs: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.model.losses(*inputs), {}


class ObjectsTraining(BaseTraining):
    """Subclasses also set the attributes below."""

    source: Any  # annotations of the training images
    validation: Any

    def sources(self) -> Mapping[str, Source]:
        return {"training": self.source, "validation": self.validation}

    def initialize(self, log: Log) -> None:
        """Loads `model.pretrained`, if set, into the backbone."""
        model = self.experiment.model
        if model.pretrained:
            log.info(str(pretrained.load(self.model, model.pretrained, model.backbone.name)))
        elif model.freeze_stages or getattr(model.backbone, "norm", None) == "frozen":
            log.info(
                "the backbone has random weights, also in its frozen parts (model.freeze_stages, model.backbone.norm): "
                "give weights by --init or model.pretrained"
            )

    def inputs(self, batch: Batch, step: int) -> tuple[Images, Targets]:
        return cast(Images, batch.images), cast(Targets, batch.targets)

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        return normalized(cast(Normalize, model.normalize), cast(Images, batch.images))

    def name(self, index: int) -> str:
        return self.source.name(index)


def with_total(losses: dict[str, float]) -> dict[str, float]:
    """Returns validation losses as metrics, with their sum first."""
    return {"loss": sum(losses.values()), **losses} if losses else {}
