"""The validation images of an experiment: files decoded by worker processes, or one tensor on the device."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import torch

from resdet.classification.config import ClassificationEvalConfig, ClassificationExperiment
from resdet.classification.data.config import ImagesConfig, OnDeviceConfig
from resdet.classification.data.on_device import OnDeviceEvaluation, open_on_device
from resdet.classification.evaluate import Scored, scored_images, scored_on_device
from resdet.classification.test_crops import Scorable
from resdet.data.class_names import match_classes
from resdet.data.folder import ImageFiles
from resdet.data.loader import Skipped
from resdet.engine.distributed import World
from resdet.images.decode import Source


class ImageValidation:
    """Images from files."""

    def __init__(self, config: ImagesConfig, eval: ClassificationEvalConfig, world: World, skipped: Skipped):
        self.source = config.open("val")
        self.config, self.eval, self.world, self.skipped = config, eval, world, skipped
        self.classes, self.labels, self.name = self.source.classes, self.source.labels, self.source.name
        self.note = self.source.note if isinstance(self.source, ImageFiles) else ""
        self.sources: Mapping[str, Source] = {"validation": self.source}

    def __len__(self) -> int:
        return len(self.source)

    def relabel(self, labels: Sequence[int]) -> None:
        """Replaces each label with its entry in `labels`."""
        self.labels = self.source.labels = np.array(labels, np.int64)[self.labels]

    def pixels(self, index: int) -> np.ndarray:
        """Returns an image, uint8 [H, W, 3]."""
        return self.source.image(index).decode()

    def scored(self, models: Sequence[Scorable]) -> Iterator[Scored]:
        """Yields the scores of a classifier, or of an ensemble, for this process's share of the images."""
        options = self.world.options(self.config)
        return scored_images(models, self.source, self.eval, self.world.device, self.skipped, **options)


class OnDeviceValidation:
    """Small images on the device, with a single view."""

    sources: Mapping[str, Source] = {}
    note = ""

    def __init__(self, config: OnDeviceConfig, batch: int, world: World):
        self.images = open_on_device(config, "val", world.device)
        self.batch, self.world = batch, world
        self.classes, self.labels, self.name = self.images.classes, self.images.labels, self.images.name

    def __len__(self) -> int:
        return len(self.images)

    def relabel(self, labels: Sequence[int]) -> None:
        self.labels = self.images.labels = torch.tensor(labels).to(self.labels.device)[self.labels]

    def pixels(self, index: int) -> np.ndarray:
        return self.images.images[index].permute(1, 2, 0).cpu().numpy()

    def scored(self, models: Sequence[Scorable]) -> Iterator[Scored]:
        batches = OnDeviceEvaluation(self.images, self.batch, self.world.rank, self.world.size)
        return scored_on_device(models, batches, self.world.device)


Validation = ImageValidation | OnDeviceValidation


def open_validation(experiment: ClassificationExperiment, world: World, skipped: Skipped) -> Validation:
    """Opens the validation images; `skipped` reports unreadable files."""
    if isinstance(experiment.data, ImagesConfig):
        return ImageValidation(experiment.data, experiment.eval, world, skipped)
    return OnDeviceValidation(cast(OnDeviceConfig, experiment.data), experiment.eval.batch, world)


def match(images: Validation, name: str, classes: Sequence[str]) -> str | None:
    """Converts the labels to those of a model, called `name` in errors; returns a note on classes that differ."""
    labels, note = match_classes(name, classes, images.classes)
    if labels != [*range(len(labels))]:
        images.relabel(labels)
    return note
