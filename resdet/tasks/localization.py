"""ImageNet localization with a per-class RPN (appendix C)."""

from pathlib import Path
from typing import Any, Iterator, Optional

import torch
from torch import Tensor, nn

from resdet.backbones.surgery import exact_batch_statistics
from resdet.data.loader import Loader, Notes
from resdet.data.localized import CropLoader
from resdet.data.sources import open_localized
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import DataError
from resdet.evaluation.localization import errors, locate_all
from resdet.inference.localization import Locator
from resdet.models.building import Model, build_localizer
from resdet.models.detector import normalised
from resdet.structures import Batch, Images, Targets
from resdet.weights import loading, pretrained


class LocalizerStep(nn.Module):
    """What a training step computes, for the RPN as for R-CNN."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.model.losses(*inputs), {}


class LocalizationTask:
    """The trainer's view of a localization experiment. It is judged with the ground-truth class (Table 13)."""

    monitor, lower_is_better = "loc_error", True

    def __init__(self, experiment: Any, world: World, log: Log, init: Optional[Path] = None):
        self.experiment, self.world = experiment, world
        torch.manual_seed(experiment.train.seed)
        self.notes = Notes(log.warn)
        self.source = open_localized(experiment.data, "train")
        self.validation = open_localized(experiment.data, "val")
        for sentence in (*self.source.problems, *self.validation.problems):
            log.say(sentence)
        if self.validation.classes != self.source.classes:
            raise DataError("The training and the validation images have other synsets: complete data.root.")
        self.model = self.build()
        if init:
            log.say(str(loading.load(self.model, init, new_classifier=True)))
        self.training = self.make_loader()
        self.step = LocalizerStep(self.model)

    def build(self) -> Model:
        return build_localizer(self.experiment, self.source.classes)

    def make_loader(self) -> Loader:
        train, world = self.experiment.train, self.world
        return CropLoader(
            self.source,
            self.experiment.data,
            train.batch,
            train.seed,
            world.device,
            self.notes,
            world.rank,
            world.size,
        )

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

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The error with the ground-truth class; the processes share the images, and all know the figures."""
        data, config = self.experiment.data, self.experiment.eval
        located = locate_all(
            Locator([model.eval()], config),
            self.validation,
            self.validation.labels[:, None],
            config,
            self.notes,
            data.workers,
            data.on_bad_image,
            self.world.rank,
            self.world.size,
        )
        return errors(self.validation, located, None)

    def keep(self, folder: Path) -> None:
        """Nothing: the figures are in the log."""

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

    def description(self) -> dict[str, Any]:
        return {"experiment": self.model.experiment, "classes": self.model.classes}
