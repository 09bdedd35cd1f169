"""Tests classifiers on a GPU; run by `make test-gpu`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resdet.backbones import create
from resdet.backbones.config import CifarNetConfig
from resdet.classification import training
from resdet.classification.config import ClassificationExperiment, ClassifierConfig
from resdet.classification.data.cifar import Cifar
from resdet.classification.data.config import TinyShapesConfig
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.trainer import Trainer

CLASSES = 10

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def colors(monkeypatch):
    """Replaces the data by noise around one color per class, which needs no OpenCV."""

    def noise(config, split):
        rng, labels = np.random.default_rng(0), np.arange(512) % CLASSES
        centers = rng.uniform(60, 190, (CLASSES, 3, 1, 1))[labels]
        pixels = centers + rng.normal(0, 20, (512, 3, 32, 32))
        names = [str(label) for label in range(CLASSES)]
        return Cifar(pixels.clip(0, 255).astype(np.uint8), labels, names)

    monkeypatch.setattr(TinyShapesConfig, "open", noise)


def trainer(**sections: dict) -> Trainer:
    given = lambda section: sections.get(section, {})
    experiment = ClassificationExperiment(
        model=ClassifierConfig(CifarNetConfig("cifar_resnet20"), num_classes=CLASSES),
        data=TinyShapesConfig("tiny_shapes", **given("data")),
        optim=OptimConfig(**given("optim")),
        schedule=ScheduleConfig("cosine", warmup=20),
        train=TrainConfig("steps", 1000, 128, **given("train")),
    )
    world = World(0, 1, torch.device("cuda", 0))
    task = training.ClassificationTraining(experiment, world, Log(None))
    return Trainer(task, experiment.optim, experiment.schedule, experiment.train, world, Path("unused"))


OPTIONS = [
    {},
    {"train": {"ema": 0.9}, "data": {"mixup": 0.2}},
    {"train": {"accumulate": 2}, "optim": {"clip_norm": 1}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "averaged and mixed", "in parts"])
def test_a_step_does_not_synchronize_with_the_device(options):
    made = trainer(**options)
    batches = made.task.training.batches(0)
    made.take_step(next(batches))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            made.take_step(next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_outputs_equal_the_cpu():
    torch.manual_seed(0)
    net = create("resnet18", num_classes=10).eval()
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        expected = net(images)
        found = net.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_compiled_steps_reduce_the_loss():
    made = trainer(train={"compile": True})
    batches = made.task.training.batches(0)
    for _ in range(60):
        made.take_step(next(batches))
        made.step += 1
    losses = made.window.table()[:, 0]
    assert torch.isfinite(losses).all() and losses[-10:].mean() < losses[:10].mean()


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "averaged and mixed", "in parts"])
def test_captured_steps_equal_eager_steps(options):
    """Compares losses and weights after ten steps, up to the order of summation."""
    losses, weights = {}, {}
    for graph in (False, True):
        torch.manual_seed(0)
        made = trainer(**{**options, "train": {**options.get("train", {}), "graph": graph, "precision": "fp32"}})
        batches = made.task.training.batches(0)
        for _ in range(10):
            made.take_step(next(batches))
            made.step += 1
        losses[graph] = made.window.table()[:, 0]
        weights[graph] = torch.cat(
            [tensor.float().flatten() for tensor in made.train_step.evaluated_model().state_dict().values()]
        )
        assert not graph or len(made.train_step.update.captured) == 1
    torch.testing.assert_close(losses[True], losses[False], rtol=0.02, atol=0.02)
    assert (weights[True] - weights[False]).norm() < 0.02 * weights[False].norm()


def test_the_schedule_reaches_captured_steps():
    """Sets the learning rate to zero, after which a captured step must not change the weights."""
    made = trainer(train={"graph": True}, optim={"weight_decay": 0.0, "momentum": 0.0})
    batches = made.task.training.batches(0)
    for _ in range(6):
        made.take_step(next(batches))
        made.step += 1
    made.schedule.lr = lambda step: 0.0
    before = [parameter.clone() for parameter in made.task.model.parameters()]
    made.take_step(next(batches))
    assert all(torch.equal(a, b) for a, b in zip(before, made.task.model.parameters()))
