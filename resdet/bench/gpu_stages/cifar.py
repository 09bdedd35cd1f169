"""ResNet-20 on CIFAR-sized images in device memory, as in `resdet train`: eager and captured steps."""

from typing import Any

import numpy as np
import torch

from resdet.backbones import registry
from resdet.bench.gpu_stages.stage import NEEDS_CUDA, Stage
from resdet.bench.nets import classifier
from resdet.bench.train import stepping_trainer
from resdet.classification.data.on_device import OnDeviceImages, OnDeviceTraining
from resdet.classification.training import ClassifierStep

IMAGES, CLASSES, SIDE, BATCH, PAD = 50_000, 10, 32, 128, 4
STEPS, PAPER = 1000, 64_000
LOG_EVERY = 50


def run(stage: Stage) -> None:
    for precision in sorted({stage.precision, "fp32"}):
        for captures in (False, True):
            name = f"ResNet-20, {precision}, {'captured' if captures else 'eager'}"
            if captures and not stage.cuda:
                stage.add(name, {"note": NEEDS_CUDA})
            else:
                stage.attempt(name, lambda: training(stage, captures, precision))


def training(stage: Stage, captures: bool, precision: str) -> dict[str, Any]:
    """Measures the mean time of a step, including its batch."""
    data, size = images(stage), 8 if stage.tiny else BATCH
    batches = OnDeviceTraining(data, size, seed=0, pad=PAD, flip=True).batches(0)
    torch.manual_seed(0)
    model = classifier(registry.create("cifar_resnet20", CLASSES), SIDE)
    options: dict[str, Any] = {"device": stage.device, "precision": precision, "graph": captures}
    trainer = stepping_trainer(model, ClassifierStep(model), size, lr=0.1, **options)
    last: list[float] = []

    def take(steps: int) -> None:
        for _ in range(steps):
            trainer.take_step(next(batches))
            trainer.step += 1
            if trainer.step % LOG_EVERY == 0:
                last[:] = trainer.window.table()[:, 0].tolist()
                trainer.window.clear()

    count = 2 if stage.tiny else STEPS
    first = stage.seconds(lambda: take(1 if stage.tiny else LOG_EVERY))
    seconds = stage.seconds(lambda: take(count))
    loss = {"loss": sum(last) / len(last)} if last else {}
    return {
        "batch": size,
        "ms": 1000 * seconds / count,
        "first_s": first,
        f"s_of_{PAPER}": seconds * PAPER / count,
        **loss,
    }


def images(stage: Stage) -> OnDeviceImages:
    """Generates images of noise around one color per class."""
    rng = np.random.default_rng(0)
    count = 500 if stage.tiny else IMAGES
    labels = np.arange(count) % CLASSES
    pixels = rng.integers(0, 80, (count, 3, SIDE, SIDE), dtype=np.uint8)
    pixels += rng.integers(0, 176, (CLASSES, 3, 1, 1), dtype=np.uint8)[labels]
    names = [str(label) for label in range(CLASSES)]
    return OnDeviceImages(pixels, labels, names, torch.device(stage.device))
