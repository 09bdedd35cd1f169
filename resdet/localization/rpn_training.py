"""Training of the per-class RPN (appendix C)."""

import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from resdet.data.loader import Notes
from resdet.detection.objects_training import PICTURE_COUNT, PICTURES, RESULTS, LossesStep, ObjectsTraining, with_total
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.training import Training
from resdet.errors import DataError
from resdet.files.atomic import write_text
from resdet.localization.build import build_localizer
from resdet.localization.config import LocalizerExperiment
from resdet.localization.data.config import LocalizationConfig
from resdet.localization.data.crops import CropLoader
from resdet.localization.evaluate import Located, ViewBatch, errors, locate_all
from resdet.localization.locate import Locator
from resdet.localization.pictures import drawn, name_of, write_located
from resdet.localization.rpn_model import Localizer
from resdet.localization.validation_loss import rpn_losses
from resdet.results.spread import spread
from resdet.results.visualizer import fitted


class LocalizationTraining(ObjectsTraining):
    """The training task of a localization experiment; evaluates with the ground-truth class (Table 13)."""

    monitor = "loc_error"

    def __init__(self, experiment: LocalizerExperiment, world: World, log: Log, init: Path | None = None):
        self.experiment, self.world = experiment, world
        torch.manual_seed(experiment.train.seed)
        self.notes = Notes(log.warn, number=world.number)
        self.data = cast(LocalizationConfig, experiment.data)
        self.source = self.data.open("train")
        self.validation = self.data.open("val")
        for sentence in (*self.source.problems, *self.validation.problems):
            log.info(sentence)
        if self.validation.classes != self.source.classes:
            raise DataError("The training and validation images have different synsets: complete data.root.")
        self.model = self.build()
        if init:
            self.start_from(init, log)
        self.training = self.make_loader()
        self.step = LossesStep(self.model)
        self.located: Located | None = None  # of the last evaluation

    def build(self) -> nn.Module:
        return build_localizer(self.experiment, self.source.classes)

    def make_loader(self) -> Training:
        train, world = self.experiment.train, self.world
        return CropLoader(
            self.source,
            self.data,
            train.batch,
            train.seed,
            world.device,
            self.notes,
            world.rank,
            world.size,
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Returns the error with the ground-truth class and the validation losses, over all processes."""
        config = self.experiment.eval
        locator = Locator([cast(Localizer, model.eval())], config)
        self.located = locate_all(
            locator,
            self.validation,
            self.validation.labels[:, None],
            config,
            self.notes,
            losses=partial(self.losses_of, model, locator) if config.losses else None,
            **self.world.options(self.data),
        )
        return with_total(self.located.losses) | errors(self.validation, self.located, None)

    def monitors(self) -> list[str]:
        return [self.monitor, *(["loss"] if self.experiment.eval.losses else ())]

    def lower_is_better(self, metric: str) -> bool:
        return True  # errors and losses

    def losses_of(self, model: nn.Module, locator: Locator, batch: ViewBatch) -> dict[str, Tensor]:
        """Returns the validation losses of a batch."""
        return rpn_losses(cast(Localizer, model), self.validation, self.data.max_objects, batch)

    def keep(self, folder: Path) -> None:
        """Writes the boxes of the last evaluation in the format of `resdet predict --json`, and drawings of some."""
        located = cast(Located, self.located)
        results = located.results(self.validation, self.validation.labels[:, None])
        write_text(folder / RESULTS, json.dumps([result.to_dict() for result in results]))
        write_located(folder / PICTURES, self.validation, located.indices, results, PICTURE_COUNT)

    def pictures(self, count: int) -> dict[str, np.ndarray]:
        """Draws evenly spaced validation images with the ground truth and the predicted box; none if a subclass
        evaluates without boxes."""
        if self.located is None:
            return {}
        rows = spread(len(self.located.indices), count)
        indices, boxes, scores, sizes, _ = self.located
        located = Located(indices[rows], boxes[rows], scores[rows], sizes[rows], {})
        results = located.results(self.validation, self.validation.labels[:, None])
        pairs = zip(located.indices.tolist(), results)
        return {
            f"val/{name_of(self.validation, index)}": fitted(drawn(self.validation, index, result))
            for index, result in pairs
        }

    def description(self) -> dict[str, Any]:
        return {"experiment": self.model.experiment, "classes": self.model.classes}
