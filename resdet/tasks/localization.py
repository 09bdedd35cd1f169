"""ImageNet localization with a per-class RPN (appendix C)."""

from pathlib import Path
from typing import Any, Optional

import torch
from torch import nn

from resdet.data.loader import Loader, Notes
from resdet.data.localized import CropLoader
from resdet.data.sources import open_localized
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import DataError
from resdet.evaluation.localization import errors, locate_all
from resdet.inference.localization import Locator
from resdet.models.building import Model, build_localizer
from resdet.tasks.objects import LossesStep, ObjectsTask
from resdet.weights import loading


class LocalizationTask(ObjectsTask):
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
        self.step = LossesStep(self.model)

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

    def description(self) -> dict[str, Any]:
        return {"experiment": self.model.experiment, "classes": self.model.classes}
