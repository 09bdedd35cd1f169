"""Image classification: sections 3.4 (ImageNet) and 4.2 (CIFAR-10)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resdet.classification.build import build_classifier
from resdet.classification.data.config import ImagesConfig
from resdet.classification.data.on_device import OnDeviceEvaluation, OnDeviceTraining
from resdet.classification.data.sources import open_images, open_on_device
from resdet.classification.evaluate import Views, evaluate_on_device, evaluate_views
from resdet.classification.model import Classifier
from resdet.classification.test_crops import CenterCrop
from resdet.data.loader import Samples, Skipped, TrainingLoader
from resdet.data.samplers import generator_for
from resdet.engine.base_training import BaseTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.structures import Batch

MEAN_IMAGES = 2048  # of the training set, for a per-pixel mean


class ClassifierStep(nn.Module):
    """What a training step computes: the loss, and the error on the batch."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        logits = self.model(images)
        labels = targets.argmax(1) if targets.is_floating_point() else targets
        wrong = (logits.argmax(1) != labels) & (labels >= 0)
        error = wrong.sum() / (labels >= 0).sum().clamp(min=1)
        return {"cross_entropy": self.model.cross_entropy(logits, targets)}, {"error": error}


class ClassificationTraining(BaseTraining):
    """The trainer's view of a classification experiment."""

    monitor, lower_is_better = "error", True

    def __init__(self, experiment: Any, world: World, log: Log, init: Path | None = None):
        self.experiment, self.world = experiment, world
        torch.manual_seed(experiment.train.seed)
        images = isinstance(experiment.data, ImagesConfig)
        Pipeline = ImagePipeline if images else OnDevicePipeline
        self.data = Pipeline(experiment, world, Skipped(log.warn))
        self.model = build_classifier(experiment, self.data.classes, *self.data.statistics())
        if init:
            self.start_from(init, log)
        self.training = self.data.training
        self.notes = self.data.skipped
        self.step = ClassifierStep(self.model)

    def sources(self) -> Mapping[str, Source]:
        return self.data.sources

    def initialize(self, log: Log) -> None:
        """From random weights."""

    def inputs(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Images and labels, mixed where mixup or cutmix is on."""
        mixup, cutmix = self.data.mixing
        if not (mixup or cutmix):
            return batch.images, batch.targets
        from resdet.classification.data.mix import mix

        generator = torch.Generator().manual_seed(
            int(generator_for(self.experiment.train.seed, 2, step, self.world.rank).integers(2**62))
        )
        classes = torch.arange(len(self.model.classes), device=batch.targets.device)
        targets = (batch.targets[:, None] == classes).float()  # all zeros where an image is left out
        return mix(batch.images.float(), targets, mixup, cutmix, generator)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return self.data.evaluate(model.eval()).summary()

    def keep(self, folder: Path) -> None:
        """Nothing: the figures are in the log."""

    def name(self, index: int) -> str:
        return self.data.name(index)

    def description(self) -> dict[str, Any]:
        return {"experiment": self.model.experiment, "classes": self.model.classes}


class ImagePipeline:
    """Photographs from files, decoded and augmented by worker processes."""

    def __init__(self, experiment: Any, world: World, skipped: Skipped):
        from resdet.classification.data.transforms import TrainTransform

        config = self.config = experiment.data
        self.eval, self.world = experiment.eval, world
        self.skipped = skipped
        self.source = open_images(config, "train")
        self.validation = open_images(config, "val")
        check_classes(self.source.classes, self.validation.classes)
        self.sources = {"training": self.source, "validation": self.validation}
        self.classes = self.source.classes
        self.mixing = (config.augment.mixup, config.augment.cutmix)
        self.name = self.source.name
        transform = TrainTransform(config.augment, config.size)
        self.training = TrainingLoader(
            Samples(self.source, transform, experiment.train.seed, config.size, config.on_bad_image),
            experiment.train.batch,
            config.repeats,
            config.workers,
            world.device,
            self.skipped,
            world.rank,
            world.size,
        )

    def statistics(self) -> tuple[Tensor, Tensor]:
        """ImageNet's color statistics, or with `mean: per_pixel` the mean image of a sample of the training set."""
        if self.config.mean == "per_channel":
            return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        sample = np.linspace(0, len(self.source) - 1, min(MEAN_IMAGES, len(self.source))).astype(int)
        crops = Views(self.source, CenterCrop(self.config.short, self.config.size), sample, self.config.on_bad_image)
        return mean_image(crops, self.skipped), torch.tensor(IMAGENET_STD)

    def evaluate(self, model: nn.Module):
        return evaluate_views(
            [model],
            self.validation,
            self.eval,
            self.world.device,
            skipped=self.skipped,
            workers=self.config.workers,
            on_bad_image=self.config.on_bad_image,
            rank=self.world.rank,
            world=self.world.size,
        )


def check_classes(train: Sequence[str], val: Sequence[str]) -> None:
    """Labels are positions among the names, so that both need the same ones; shards without names know positions
    alone (resdet/data/tar_index.py), and need not show the last of them."""
    numbered = [list(names) == [str(label) for label in range(len(names))] for names in (train, val)]
    fits = len(val) <= len(train) if numbered[1] else len(val) == len(train) and (numbered[0] or val == train)
    if not fits:
        odd = sorted(set(train) ^ set(val))
        raise DataError(
            f"The training set has {len(train)} classes and the validation set {len(val)}, and of one alone are "
            f"{', '.join(odd[:3])}{' …' if len(odd) > 3 else ''}: give both the same."
        )


class OnDevicePipeline:
    """Small images on the device (section 4.2)."""

    sources: Mapping[str, Source] = {}

    def __init__(self, experiment: Any, world: World, skipped: Skipped):
        config = self.config = experiment.data
        self.world, self.batch, self.skipped = world, experiment.eval.batch, skipped
        self.images = open_on_device(config, "train", world.device)
        self.validation = open_on_device(config, "val", world.device)
        self.classes = self.images.classes
        self.mixing = (config.mixup, config.cutmix)
        self.name = self.images.name
        train = experiment.train
        self.training = OnDeviceTraining(
            self.images, train.batch, train.seed, config.pad, config.flip, world.rank, world.size
        )

    def statistics(self) -> tuple[Tensor, Tensor]:
        """The mean image of the training set, as the paper has it, or its mean color; the deviation of colors."""
        return self.images.mean(self.config.mean == "per_pixel").cpu(), self.images.std().cpu()

    def evaluate(self, model: nn.Module):
        batches = OnDeviceEvaluation(self.validation, self.batch, self.world.rank, self.world.size)
        return evaluate_on_device([model], batches, self.world.device)


def mean_image(crops: Views, skipped: Skipped) -> Tensor:
    """The mean of one crop an image, [3, size, size]; damaged images are left out where the config says so."""
    total, count = 0.0, 0
    for position in range(len(crops)):
        shown, _, _, reason = crops[position]
        skipped.note([reason] if reason else [])
        for crop in shown:
            total, count = total + crop[0].double(), count + 1
    if not count:
        raise DataError("No training image could be read to take their mean: look at the files that were named.")
    return (total / count).float()
