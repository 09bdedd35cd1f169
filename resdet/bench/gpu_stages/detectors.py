"""Training steps of detectors for several stages, with the same weights, images and objects."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from resdet.bench.detect_train import Inputs, mask_head_note, torchvision_step, trainer_of
from resdet.bench.detection import twins
from resdet.bench.gpu_stages.stage import Call, Stage
from resdet.bench.nets import Variant
from resdet.detection.model import Detector
from resdet.engine.trainer import Trainer
from resdet.structures import Batch


class Pair(NamedTuple):
    """torchvision's and resdet's detector, and their inputs."""

    name: str
    peer: nn.Module
    model: Detector
    inputs: Inputs
    variant: Variant

    @classmethod
    def make(cls, stage: Stage, masks: bool) -> "Pair":
        height, width, batch, body, counts = stage.size
        peer, model = twins(masks, height, width, body, counts, stage.device)
        inputs = Inputs.make(height, width, batch).to(stage.device)
        return cls("Mask R-CNN" if masks else "Faster R-CNN", peer, model, inputs, stage.variant)

    def note(self) -> str:
        """The number of positive RoIs."""
        return mask_head_note(self.peer, self.inputs) if self.model.draws_masks else ""

    def trainer(self, captures: bool = False, **settings: Any) -> Trainer:
        """Returns resdet's trainer in its default precision, bf16 on a GPU."""
        return trainer_of(self.model, len(self.inputs.images), self.variant.device, graph=captures, **settings)

    def step(self, captures: bool = False, **settings: Any) -> Call:
        trainer = self.trainer(captures, **settings)
        return lambda: take_step(trainer, self.inputs.batch)

    def peer_step(self) -> Call:
        return torchvision_step(self.peer, self.inputs, self.variant)


def take_step(trainer: Trainer, batch: Batch) -> None:
    trainer.window.clear()
    trainer.take_step(batch)


def pairs(stage: Stage) -> Iterator[Pair]:
    for masks in (True, False):
        yield Pair.make(stage, masks)
        stage.free()


@contextmanager
def cudnn_benchmark(on: bool) -> Iterator[None]:
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def chosen_by_benchmark(make: Callable[[], Call], on: bool) -> Callable[[], Call]:
    """Wraps `make` so that it and its calls run with cuDNN's benchmark mode on or off."""

    def made() -> Call:
        call = make()

        def run() -> None:
            with cudnn_benchmark(on):
                call()

        return run

    return made
