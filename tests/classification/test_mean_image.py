"""Tests the per-pixel mean that is subtracted from ImageNet crops (section 3.4 of the paper)."""

import numpy as np
import pytest
import torch

from resdet import config
from resdet.classification.config import TestCropsConfig
from resdet.classification.evaluate import Views
from resdet.classification.test_crops import build_test_crops
from resdet.classification.training import ClassificationTraining, mean_image
from resdet.data.loader import Skipped
from resdet.data.shapes import ShapeImages
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import DataError
from resdet.images.crops import center_crop
from resdet.images.statistics import IMAGENET_MEAN


class Damaged(ShapeImages):
    def image(self, index):
        if index == 2:
            raise DataError("image 2 is cut short")
        return super().image(index)


def views(source, on_bad_image):
    return Views(source, build_test_crops(TestCropsConfig(), 32, 36), range(len(source)), on_bad_image)


def mean_by_hand(source, indices):
    crops = [center_crop(source.image(index), 36, 32).astype(float) for index in indices]
    return torch.from_numpy(np.mean(crops, 0).transpose(2, 0, 1)).float()


def test_mean_image_is_the_mean_of_the_center_crops():
    source = ShapeImages(5, 40, 0, "train")
    torch.testing.assert_close(
        mean_image(views(source, "error"), Skipped(print, set())), mean_by_hand(source, range(5))
    )


def test_a_damaged_image_raises_or_is_skipped():
    source, said = Damaged(5, 40, 0, "train"), []
    with pytest.raises(DataError, match="image 2"):
        mean_image(views(source, "error"), Skipped(said.append, set()))
    found = mean_image(views(source, "skip"), Skipped(said.append, set()))
    torch.testing.assert_close(found, mean_by_hand(source, [0, 1, 3, 4]))
    assert said == ["skipped image 1: image 2 is cut short"]


def training(name, *overrides):
    words = ["model.backbone=cifar_resnet8", "data.train_images=10", "data.val_images=10", *overrides]
    return ClassificationTraining(config.load(name, *words), World(0, 1, torch.device("cpu")), Log(None))


FILES = ("data.size=32", "data.short=36", "data.augment.short=[36,40]", "data.workers=0")


def test_a_training_subtracts_the_mean_of_its_images():
    task = training("shapes_r18", *FILES, "data.mean=per_pixel")
    torch.testing.assert_close(task.model.normalize.mean, mean_by_hand(task.data.source, range(10)))
    task = training("shapes_r18", *FILES)
    assert task.model.normalize.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    task = training("shapes_resnet20", "data.mean=per_channel")
    images = task.data.images.images.double()
    assert len(images) == 10
    torch.testing.assert_close(task.model.normalize.mean.flatten().double(), images.mean((0, 2, 3)))
    deviations = images.transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(task.model.normalize.std.flatten().double(), deviations)
    task = training("shapes_resnet20")
    torch.testing.assert_close(task.model.normalize.mean.double(), images.mean(0))
