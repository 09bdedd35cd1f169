"""A task with one linear layer, and its trainer."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from resdet.engine.callbacks import Callbacks
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.run import Run
from resdet.engine.trainer import Trainer
from resdet.structures import Batch

CPU = torch.device("cpu")
SAMPLES, CLASSES = 24, 3


class Numbers:
    """Yields endless batches of four fixed samples in order."""

    steps_per_epoch = SAMPLES / 4

    def __init__(self, spoilt=()):
        rng = torch.Generator().manual_seed(0)
        self.images = torch.randn(SAMPLES, 5, generator=rng)
        self.targets = torch.randint(CLASSES, (SAMPLES,), generator=rng)
        for index in spoilt:
            self.images[index] = torch.nan

    def draw(self, step):
        indices = torch.arange(4 * step, 4 * step + 4) % SAMPLES
        return Batch(self.images[indices], self.targets[indices], indices)

    def batches(self, first_step):
        step = first_step
        while True:
            yield self.draw(step)
            step += 1


class Linear:
    """A task with one linear layer; `figures` lists the errors that successive evaluations return."""

    monitor = "error"

    def __init__(self, spoilt=(), figures=()):
        torch.manual_seed(0)
        self.model = nn.Linear(5, CLASSES)
        self.training = Numbers(spoilt)
        self.figures = list(figures)
        self.step = Step(self.model)

    def inputs(self, batch, step):
        return batch.images, batch.targets

    def evaluate(self, model):
        return {"error": self.figures.pop(0) if self.figures else 0.5}

    def lower_is_better(self, metric):
        return metric == "error"

    def name(self, index):
        return f"image-{index}"

    def keep(self, folder):
        pass

    def pictures(self, count):
        return {f"val/{index}": np.full((4, 6, 3), index, np.uint8) for index in range(count)}

    def description(self):
        return {"classes": ["a", "b", "c"], "experiment": {"train": {"patience": None}}}


class Step(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, targets):
        logits = self.model(images)
        return {"cross_entropy": F.cross_entropy(logits, targets)}, {
            "error": (logits.argmax(1) != targets).float().mean()
        }


def trainer(task, out, optim=None, schedule=None, **train):
    settings = {"unit": "steps", "length": 9, "batch": 4, "precision": "fp32", "log_every": 3, "channels_last": False}
    settings |= {"evaluate_every": 3, "checkpoint_every": 3} | train
    schedule = schedule or ScheduleConfig(name="constant")
    return Trainer(task, optim or OptimConfig(lr=0.1), schedule, TrainConfig(**settings), World(0, 1, CPU), out)


def run(made, out, loggers=(), callbacks=()):
    out.mkdir(exist_ok=True)
    log = Log(out)
    log.open(made.step)
    watched = Run(out, {"name": "linear"}, made.task.model, made.total, made.step)
    log.add_loggers(loggers, watched)
    made.callbacks = Callbacks(callbacks, watched)
    try:
        return made.run(log)
    finally:
        log.close(made.complete)
