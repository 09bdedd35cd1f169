"""A training step of ResNet-50: forward, cross-entropy, backward, SGD with momentum."""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.layers import Backbone
from resdet.bench.nets import COMPILED, EAGER, Variant, classifier, each, normalizer, pixels, resnet50s
from resdet.classification.training import ClassifierStep
from resdet.cudnn import fastest_algorithms
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.engine.distributed import World
from resdet.engine.trainer import Trainer
from resdet.engine.training import TrainingTask
from resdet.structures import Batch
from resdet.timing import Case

BATCH, SIZE = 8, 224
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4


def cases(batch: int = BATCH, size: int = SIZE, device: str = "cpu") -> Iterator[Case]:
    yield from training_cases("", resnet50s(), pixels(batch, size, device), (*EAGER, *COMPILED))


def training_cases(
    prefix: str, nets: dict[str, nn.Module | str], images: Tensor, variants: Sequence[Variant]
) -> Iterator[Case]:
    """Yields training steps on uint8 `images` [B, 3, S, S] on their device: each library's defaults, then variants.

    Defaults: other libraries as in their examples, in float32 and contiguous memory; resdet as in `resdet train`.
    """
    torch.compiler.reset()
    batch, size, device = len(images), images.shape[-1], images.device.type
    normalized = normalizer().to(device)(images)
    contiguous = normalized.contiguous()
    nets = each(nets, lambda net: net.to(device))

    model = classifier(cast(Backbone, nets["resdet"]), size)
    labels = torch.arange(batch, device=device) % len(model.classes)
    trainer = stepping_trainer(model, ClassifierStep(model), batch, device=device)
    peers = each(nets, lambda net: training_step(Loss(copy.deepcopy(net)), contiguous, labels))
    given = Batch(images, labels, torch.arange(batch))
    resdet = lambda: take_step(trainer, given)
    name = f"{prefix}defaults (resdet: channels_last, {trainer.train_step.precision})"
    yield Case(name, batch, {**peers, "resdet": resdet})

    for variant in (variant.on(device) for variant in variants):
        torch.compiler.reset()
        sides = each(nets, lambda net: training_step(variant.prepare(Loss(net)), normalized, labels, variant))
        yield Case(f"{prefix}{variant}", batch, sides)
    if variant.compile:
        yield Case(f"{prefix}resdet compiled, bf16; peers' defaults", batch, {**peers, "resdet": sides["resdet"]})


class Loss(nn.Module):
    """Cross-entropy of a net in training mode."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.train()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.net(images).float(), labels)


def training_step(
    loss: nn.Module, images: Any, targets: Any, variant: Variant = EAGER[0], lr: float = LR
) -> Callable[[], None]:
    """Returns a function that runs one step; `loss(images, targets)` returns a scalar."""
    optimizer = torch.optim.SGD(loss.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)

    def run() -> None:
        with variant.autocast():
            total = loss(images, targets)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def take_step(trainer: Trainer, batch: Batch) -> None:
    """Takes a step of `resdet train`."""
    with fastest_algorithms():
        trainer.take_step(batch)


def stepping_trainer(
    model: nn.Module, step: nn.Module, batch: int, lr: float = LR, device: str = "cpu", **settings: Any
) -> Trainer:
    """Returns the trainer of `resdet train`, by default with its default settings."""
    optim = OptimConfig(lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    train = TrainConfig(unit="steps", length=1, batch=batch, **settings)
    world = World(rank=0, size=1, device=torch.device(device))
    task = cast(TrainingTask, StepOnlyTask(model, step))
    return Trainer(task, optim, ScheduleConfig(name="constant"), train, world, Path())


class StepOnlyTask:
    """The part of a TrainingTask that a training step needs, without data, evaluation and checkpoints."""

    def __init__(self, model: nn.Module, step: nn.Module):
        self.model, self.step = model, step

    def inputs(self, batch: Batch, step: int) -> tuple[Any, Any]:
        return batch.images, batch.targets
