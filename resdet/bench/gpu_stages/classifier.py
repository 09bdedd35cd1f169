"""Training steps of ResNet-50 in bfloat16: resdet's trainer (eager, captured and compiled) and torchvision's net."""

import copy
from typing import Any

import torch

from resdet.bench.gpu_stages.detectors import chosen_by_benchmark, take_step
from resdet.bench.gpu_stages.stage import NEEDS_CUDA, Call, Stage
from resdet.bench.nets import classifier, normalizer, pixels, resnet50s
from resdet.bench.train import Loss, stepping_trainer, training_step
from resdet.classification.training import ClassifierStep
from resdet.structures import Batch


def run(stage: Stage) -> None:
    batch, size = (2, 32) if stage.tiny else (256, 224)
    nets: dict[str, Any] = resnet50s()
    images, labels = pixels(batch, size).to(stage.device), (torch.arange(batch) % 1000).to(stage.device)
    given = Batch(images, labels, torch.arange(batch))

    def resdet_step(**settings: Any) -> Call:
        model = classifier(nets["resdet"], size)
        trainer = stepping_trainer(model, ClassifierStep(model), batch, device=stage.device, **settings)
        return lambda: take_step(trainer, given)

    def torchvision_step() -> Call:
        loss = stage.variant.prepare(Loss(copy.deepcopy(nets["torchvision"])).to(stage.device))
        return training_step(loss, normalizer().to(stage.device)(images), labels, stage.variant)

    name = f"ResNet-50, batch {batch}, {{}}".format
    for on in (False, True):
        suffix = f", cudnn.benchmark {'on' if on else 'off'}"
        stage.time(name(f"torchvision{suffix}"), chosen_by_benchmark(torchvision_step, on))
        stage.time(name(f"resdet{suffix}"), chosen_by_benchmark(resdet_step, on))
        if stage.cuda:
            captured = chosen_by_benchmark(lambda: resdet_step(graph=True), on)
            stage.time(name(f"resdet, captured{suffix}"), captured)
    if stage.cuda:
        stage.time_compiled(name("resdet, compiled"), lambda: resdet_step(compile=True))
    else:
        stage.add(name("resdet, captured and compiled"), {"note": NEEDS_CUDA})
