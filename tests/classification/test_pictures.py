"""Tests the top classes that an evaluation keeps, and the caption drawn below an image."""

import numpy as np
import pytest
import torch

from resdet import config
from resdet.classification import training
from resdet.classification.pictures import BestClasses, captioned
from resdet.classification.training import ClassificationTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log


def test_top_classes_of_the_selected_images():
    scores = torch.rand(40, 5, generator=torch.Generator().manual_seed(0))
    batches = [(scores[start : start + 8], torch.zeros(8), torch.arange(start, start + 8)) for start in (8, 0, 32)]
    best = BestClasses([0, 3, 33, 39])
    assert len(list(best.collect(batches))) == 3
    found = best.gather()
    assert list(found) == [0, 3, 33, 39]
    for index, (labels, values) in found.items():
        order = np.argsort(-scores[index].numpy())[:3]
        assert labels == order.tolist() and np.allclose(values, scores[index][order])


def test_two_classes_give_two_entries():
    best = BestClasses([1])
    list(best.collect([(torch.tensor([[0.1, 0.9], [0.7, 0.3]]), torch.zeros(2), torch.arange(2))]))
    assert best.gather()[1][0] == [0, 1]


def colored(strip: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the rows of the strip with red, green and black letters."""
    red, green, blue = (strip[..., channel].astype(int) for channel in range(3))
    masks = {"red": red - green > 90, "green": green - red > 60, "black": np.maximum(green, np.maximum(red, blue)) < 70}
    return {name: np.flatnonzero(mask.any(1)) for name, mask in masks.items()}


def test_the_true_class_is_drawn_in_green():
    pixels = np.full((160, 200, 3), 77, np.uint8)
    picture = captioned(pixels, 1, ([2, 1], [0.6, 0.3]), ["ant", "bee", "cow"])
    assert (picture[:160] == 77).all() and picture.shape[1:] == (200, 3)
    rows = colored(picture[160:])
    assert rows["black"].max() < rows["red"].min() and rows["red"].max() < rows["green"].min()


def test_small_images_are_enlarged():
    assert captioned(np.zeros((32, 32, 3), np.uint8), 0, ([0], [1.0]), ["ant"]).shape[1] == 160
    assert captioned(np.zeros((3000, 1000, 3), np.uint8), 0, ([0], [1.0]), ["ant"]).shape[1] == 213


@pytest.mark.parametrize("name, count", [("shapes_r18.yaml", 5), ("shapes_resnet20.yaml", 0)])
def test_the_first_training_images_are_drawn_with_their_classes(name, count, monkeypatch):
    """Compares with the first batches of a run; images that are augmented on the device have no pictures."""
    words = ["train.batch=4", "data.train_images=23", "data.val_images=2", "model.backbone=cifar_resnet8"]
    task = ClassificationTraining(config.load(name, *words), World(0, 1, torch.device("cpu")), Log(None))
    monkeypatch.setattr(training, "captioned", lambda pixels, label, best, classes: (pixels, classes[label]))
    drawn = task.train_images(5)
    batches = task.training.batches(0)
    first = [pair for batch in (next(batches), next(batches)) for pair in zip(batch.images, batch.targets)]
    assert len(drawn) == count
    for (pixels, name), (image, label) in zip(drawn, first):
        np.testing.assert_array_equal(pixels, image.permute(1, 2, 0).numpy())
        assert name == task.model.classes[label]
