"""Training of classifiers: sections 3.4 (ImageNet) and 4.2 (CIFAR-10)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from resdet.classification.build import build_classifier
from resdet.classification.class_weights import class_weights, extremes
from resdet.classification.config import ClassificationExperiment, TestCropsConfig
from resdet.classification.data.config import ImagesConfig, OnDeviceConfig
from resdet.classification.data.loader import Samples, TrainingLoader
from resdet.classification.data.on_device import OnDeviceTraining, open_on_device
from resdet.classification.evaluate import Views, tally
from resdet.classification.metrics import has_top5
from resdet.classification.model import Classifier
from resdet.classification.pictures import Best, BestClasses, captioned
from resdet.classification.test_crops import build_test_crops
from resdet.classification.validation import open_validation
from resdet.data.folder import ImageFiles
from resdet.data.loader import Skipped
from resdet.data.samplers import generator_for
from resdet.engine.base_training import BaseTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.progress import track
from resdet.results.spread import spread
from resdet.structures import Batch

Build = Callable[[ClassificationExperiment, Sequence[str]], Classifier]
MEAN_IMAGES = 2048  # training images for a per-pixel mean


class ClassifierStep(nn.Module):
    """The training step: the loss, and the error on the batch."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        logits = self.model(images)
        labels = targets
        if targets.is_floating_point():
            labels = torch.where(targets.any(1), targets.argmax(1), -1)  # images without a label have targets of zero
        wrong = (logits.argmax(1) != labels) & (labels >= 0)
        error = wrong.sum() / (labels >= 0).sum().clamp(min=1)
        return {"cross_entropy": self.model.cross_entropy(logits, targets)}, {"error": error}


class ClassificationTraining(BaseTraining):
    """The training task of a classification experiment."""

    monitor = "error"

    def __init__(
        self,
        experiment: ClassificationExperiment,
        world: World,
        log: Log,
        init: Path | None = None,
        build: Build = build_classifier,
    ):
        """`build` creates the model of an experiment for its classes."""
        self.experiment, self.world = experiment, world
        torch.manual_seed(experiment.train.seed)
        images = isinstance(experiment.data, ImagesConfig)
        Pipeline: type[ImagePipeline] | type[OnDevicePipeline] = ImagePipeline if images else OnDevicePipeline
        self.notes = Skipped(log.warn, number=world.number)
        self.data = Pipeline(experiment, world, self.notes)
        self.validation = open_validation(experiment, world, self.notes)
        for note in dict.fromkeys((self.data.note, self.validation.note)):
            if note:
                log.info(note)
        check_split_classes(self.data.classes, self.validation.classes)
        self.model = build(experiment, self.data.classes)
        weights = class_weights(experiment.model.class_weights, self.data.labels, self.data.classes)
        self.model.class_weights = weights
        if weights is not None:
            log.info(f"class weights: {extremes(weights, self.data.classes)}")
        self.model.normalize.set(*self.data.statistics())
        if init:
            self.start_from(init, log)
        self.training = self.data.training
        self.step = ClassifierStep(self.model)
        self.best_classes: dict[int, Best] = {}  # of some images, from the last evaluation

    def sources(self) -> Mapping[str, Source]:
        return {**self.data.sources, **self.validation.sources}

    def initialize(self, log: Log) -> None:
        """Keeps the random weights."""

    def inputs(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Returns images and labels, mixed if mixup or cutmix is enabled."""
        mixup, cutmix = self.data.mixing
        images, labels = cast(Tensor, batch.images), cast(Tensor, batch.targets)
        if not (mixup or cutmix):
            return images, labels
        from resdet.classification.data.mix import mix

        generator = torch.Generator().manual_seed(
            int(generator_for(self.experiment.train.seed, 2, step, self.world.rank).integers(2**62))
        )
        classes = torch.arange(len(self.model.classes), device=labels.device)
        targets = (labels[:, None] == classes).float()  # all zeros for a skipped image
        return mix(images.float(), targets, mixup, cutmix, generator, self.data.copies)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        best = BestClasses(spread(len(self.validation), self.experiment.train.log_images))
        scored = best.collect(self.validation.scored([cast(Classifier, model.eval())]))
        metrics = tally(scored, len(self.model.classes), self.world.device)
        self.best_classes = best.gather()
        return metrics.summary()

    def monitors(self) -> list[str]:
        return ["loss", "error", *(["top5_error"] if has_top5(len(self.model.classes)) else ())]

    def lower_is_better(self, metric: str) -> bool:
        return True  # errors and the loss

    def train_images(self, count: int) -> list[np.ndarray]:
        """Draws the first training images; none of those that are augmented on the device."""
        samples = self.training.first(count) if isinstance(self.training, TrainingLoader) else []
        readable = [(pixels, label) for pixels, label, *_ in samples if label >= 0]
        return [captioned(pixels, label, ([], []), self.model.classes) for pixels, label in readable]

    def pictures(self, count: int) -> dict[str, np.ndarray]:
        """Draws evenly spaced validation images with their class and the best classes."""
        validation, classes = self.validation, self.model.classes
        return {
            f"val/{index}": captioned(validation.pixels(index), int(validation.labels[index]), best, classes)
            for index, best in list(self.best_classes.items())[:count]
        }

    def keep(self, folder: Path) -> None:
        """Does nothing: the metrics are in the log."""

    def name(self, index: int) -> str:
        return self.data.name(index)

    def description(self) -> dict[str, Any]:
        return {"experiment": self.model.experiment, "classes": self.model.classes}


class ImagePipeline:
    """Images from files, decoded and augmented by worker processes."""

    def __init__(self, experiment: ClassificationExperiment, world: World, skipped: Skipped):
        from resdet.classification.data.transforms import TrainTransform

        config = self.config = cast(ImagesConfig, experiment.data)
        self.skipped = skipped
        self.source = config.open("train")
        self.sources: Mapping[str, Source] = {"training": self.source}
        self.classes, self.labels = self.source.classes, self.source.labels
        self.note = self.source.note if isinstance(self.source, ImageFiles) else ""
        self.mixing, self.copies = (config.augment.mixup, config.augment.cutmix), config.repeats
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
        """Returns mean and std: ImageNet's, or with `mean: per_pixel` the mean image of some training images."""
        if self.config.mean == "per_channel":
            return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        crop = build_test_crops(TestCropsConfig(views="center"), self.config.size, self.config.short_side)
        crops = Views(self.source, crop, spread(len(self.source), MEAN_IMAGES), self.config.on_bad_image)
        return mean_image(crops, self.skipped), torch.tensor(IMAGENET_STD)


def check_split_classes(train: Sequence[str], val: Sequence[str]) -> None:
    """Raises a DataError unless both splits have the same class names, which labels index. Shards without names
    (resdet/data/tar_index.py) use numbers as names, and validation shards may lack the last classes."""
    numbered = [list(names) == [str(label) for label in range(len(names))] for names in (train, val)]
    fits = len(val) <= len(train) if numbered[1] else len(val) == len(train) and (numbered[0] or val == train)
    if not fits:
        odd = sorted(set(train) ^ set(val))
        raise DataError(
            f"The training set has {len(train)} classes and the validation set {len(val)}; only one of them has "
            f"{', '.join(odd[:3])}{' …' if len(odd) > 3 else ''}: give both the same classes."
        )


class OnDevicePipeline:
    """Small images on the device (section 4.2)."""

    sources: Mapping[str, Source] = {}
    note = ""
    copies = 1  # consecutive copies of an image

    def __init__(self, experiment: ClassificationExperiment, world: World, skipped: Skipped):
        config = self.config = cast(OnDeviceConfig, experiment.data)
        self.images = open_on_device(config, "train", world.device)
        self.classes, self.labels = self.images.classes, self.images.labels.cpu().numpy()
        self.mixing = (config.mixup, config.cutmix)
        self.name = self.images.name
        train = experiment.train
        self.training = OnDeviceTraining(
            self.images, train.batch, train.seed, config.pad, config.flip, world.rank, world.size
        )

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Returns mean and std of the training set: the mean image, as in the paper, or mean color; the color std."""
        return self.images.mean(self.config.mean == "per_pixel").cpu(), self.images.std().cpu()


def mean_image(crops: Views, skipped: Skipped) -> Tensor:
    """Returns the mean over one crop per image, [3, size, size]; damaged images raise or are skipped, as configured."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for position in track(range(len(crops)), "mean image", len(crops)):
        views, _, _, reason = crops[position]
        skipped.note([reason] if reason else [])
        for crop in views:
            total, count = total + crop[0].double(), count + 1
    if not count:
        raise DataError("Cannot read any training image for the pixel mean: check the files reported above.")
    return (total / count).float()
