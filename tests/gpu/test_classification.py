"""What only a GPU can show of the classifiers; `make test-gpu`."""

from pathlib import Path

import pytest
import torch

from resdet import config
from resdet.backbones import create
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.trainer import Trainer
from resdet.tasks.classification import ClassificationTask

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def trainer(*overrides: str) -> Trainer:
    experiment = config.load("shapes_resnet20", "data.train_images=512", "data.val_images=64", *overrides)
    world = World(0, 1, torch.device("cuda", 0))
    task = ClassificationTask(experiment, world, Log(None))
    return Trainer(task, experiment.optim, experiment.schedule, experiment.train, world, Path("unused"))


OPTIONS = [(), ("train.ema=0.9", "data.mixup=0.2"), ("optim.clip_norm=1", "train.accumulate=2")]


@pytest.mark.parametrize("overrides", OPTIONS)
def test_a_step_never_waits_for_the_device(overrides):
    made = trainer(*overrides)
    batches = made.task.training.batches(0)
    made.take_step(next(batches))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            made.take_step(next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_gpu_computes_what_the_cpu_computes():
    torch.manual_seed(0)
    net = create("resnet18", num_classes=10).eval()
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        expected = net(images)
        found = net.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_compiled_steps_train():
    made = trainer("train.compile=true")
    batches = made.task.training.batches(0)
    for _ in range(60):
        made.take_step(next(batches))
        made.step += 1
    losses = made.window.table()[:, 0]
    assert torch.isfinite(losses).all() and losses[-10:].mean() < losses[:10].mean()
