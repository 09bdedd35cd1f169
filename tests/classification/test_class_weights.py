"""Tests the loss weighted by class against torch, the balanced weights against their formula, and their training."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resdet import config
from resdet.backbones import create
from resdet.classification.class_weights import balanced, extremes
from resdet.classification.model import Classifier
from resdet.classification.training import ClassificationTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError
from resdet.images.normalize import Normalize

WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])
LABELS = torch.tensor([0, 3, -1, 2, 3, 1])


def loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = WEIGHTS) -> Tensor:
    model = Classifier(create("cifar_resnet20", 4), list("abcd"), Normalize(), 32, 32, smoothing)
    model.class_weights = weights
    return model.cross_entropy(logits, targets)


def logits() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_loss_is_the_sum_over_images_divided_by_their_number(smoothing):
    known = LABELS >= 0
    weighted = F.cross_entropy(logits()[known], LABELS[known], WEIGHTS, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits(), LABELS, smoothing), weighted / 5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_hot_targets_have_the_weighted_loss_of_labels(smoothing):
    """Includes an image without a label, whose target is zero."""
    targets = (LABELS[:, None] == torch.arange(4)).float()
    torch.testing.assert_close(loss(logits(), targets, smoothing), loss(logits(), LABELS, smoothing))


def test_mixed_targets_weight_each_class():
    share = torch.tensor([[0.3, 0.0, 0.0, 0.7]])
    first, last = (loss(logits()[:1], torch.tensor([label])) for label in (0, 3))
    torch.testing.assert_close(loss(logits()[:1], share), 0.3 * first + 0.7 * last)


def test_processes_that_share_a_batch_have_the_loss_of_the_whole_batch():
    known = LABELS.clamp(min=0)
    halves = [loss(logits()[part], known[part]) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(sum(halves) / 2, loss(logits(), known))


def test_balanced_weights_are_inversely_proportional_to_the_images():
    """Compares with scikit-learn's formula: images / (classes · images of the class), over nonempty classes."""
    labels = np.array([0] * 6 + [1] * 3 + [3] * 3 + [-1] * 5)
    torch.testing.assert_close(balanced(labels, 5), torch.tensor([12 / 18, 12 / 9, 0, 12 / 9, 0]))


def test_equal_classes_have_weights_of_one():
    torch.testing.assert_close(balanced(np.arange(12) % 4, 4), torch.ones(4))


def test_the_extremes_name_their_classes():
    assert extremes(torch.tensor([1.0, 0.25, 3.4567, 2.0]), ["cat", "dog", "emu", "cow"]) == "0.25 (dog) to 3.46 (emu)"


def training(name: str, weights: str, world: World | None = None) -> ClassificationTraining:
    words = ["train.batch=4", "data.train_images=23", "data.val_images=2", f"model.class_weights={weights}"]
    words += ["model.backbone=cifar_resnet8"]
    return ClassificationTraining(config.load(name, *words), world or World(0, 1, torch.device("cpu")), Log(None))


@pytest.mark.parametrize("name", ["shapes_r18.yaml", "shapes_resnet20.yaml"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_training_balances_by_the_whole_training_set(name, rank):
    """Checks that both processes use the weights of all images, and that checkpoints do not contain the weights."""
    task = training(name, "balanced", World(rank, 2, torch.device("cpu")))
    counts = np.bincount(task.data.labels, minlength=10)
    assert counts.sum() == 23 and counts.min() > 0
    torch.testing.assert_close(task.model.class_weights, torch.from_numpy(23 / (10 * counts)).float())
    assert "class_weights" not in task.model.state_dict()


def test_a_training_takes_a_list():
    assert training("shapes_resnet20.yaml", "null").model.class_weights is None
    weights = training("shapes_resnet20.yaml", "[1,2,3,4,5,6,7,8,9,10]").model.class_weights
    assert weights is not None and weights.tolist() == list(range(1, 11))
    with pytest.raises(ConfigError, match="lists 3 numbers and the data has 10 classes: give one for each class"):
        training("shapes_resnet20.yaml", "[1,2,3]")
