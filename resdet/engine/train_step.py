"""The training step: one update of the weights from one batch, eager, compiled or as a CUDA graph."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resdet.engine import distributed
from resdet.engine.config import OptimConfig, TrainConfig
from resdet.engine.cuda_graph import GraphedStep, StepInputs, uses_graph
from resdet.engine.ddp import in_parallel
from resdet.engine.distributed import World
from resdet.engine.ema import ModelEMA
from resdet.engine.metric_buffer import MetricBuffer, NonFiniteLoss
from resdet.engine.optim import build_optimizer, load_state, saved_optimizer, set_lr
from resdet.engine.precision import PRECISIONS, choose_precision
from resdet.engine.training import TrainingTask
from resdet.structures import Batch, share


class TrainStep:
    """Holds the state of an update: step module, optimizer, loss scaler and averaged weights.

    Losses and measures of each step are added to `window`.
    """

    def __init__(
        self, task: TrainingTask, optim: OptimConfig, train: TrainConfig, world: World, lr: float, window: MetricBuffer
    ):
        self.task, self.train, self.world, self.window = task, train, world, window
        layout = torch.channels_last if train.channels_last else torch.contiguous_format
        task.model.to(world.device).to(memory_format=layout)
        self.divisors = divisors(train.batch, train.accumulate, world)
        self.precision = choose_precision(train.precision, world.device)
        self.clip_norm = optim.clip_norm
        graph = uses_graph(train, self.precision, world)
        self.optimizer = build_optimizer(task.model, optim, lr, graph)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.precision == "fp16")
        self.averaged = ModelEMA(task.model, train.ema) if train.ema else None
        self.module = self.prepare_module().train()
        self.update: Callable[[StepInputs], Tensor] = self.update_weights
        if graph:
            self.update = GraphedStep(self.update_weights, self.optimizer.zero_grad)

    def prepare_module(self) -> nn.Module:
        """Returns the task's step module, compiled if configured, and wrapped for several processes."""
        step = self.task.step
        if self.train.compile:
            step.compile(mode=self.train.compile_mode, dynamic=False)
        if self.world.size == 1:
            return step
        return in_parallel(step, self.train.ddp, self.world.device)

    def __call__(self, batch: Batch, step: int, lr: float) -> None:
        """Updates the weights from one batch, in `accumulate` micro-batches."""
        torch.manual_seed(step_seed(self.train.seed, step, self.world.rank))
        set_lr(self.optimizer, lr)
        inputs = [self.task.inputs(part, step) for part in batch.parts(self.train.accumulate)]
        self.window.add(self.update(inputs), batch.indices)

    def update_weights(self, inputs: StepInputs) -> Tensor:
        """Updates the weights with the gradient of all micro-batches; returns the mean losses and measures [K]."""
        last = inputs[-1]
        results = [self.backward(part, divisor, part is last) for part, divisor in zip(inputs, self.divisors)]
        losses, measures = (self.mean_of(dicts) for dicts in zip(*results))
        row = self.window.row(losses, measures)
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update(self.task.model)
        return row

    def backward(
        self, inputs: tuple[Any, ...], divisor: float, last: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Accumulates the gradients of one micro-batch; processes exchange gradients in the last one."""
        module, dtype = self.module, PRECISIONS.get(self.precision)
        with module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext():
            with torch.autocast(self.world.device.type, dtype, enabled=dtype is not None):
                losses, measures = module(*inputs)
            total = sum(losses.values()) / divisor
            self.scaler.scale(total).backward()
        return losses, measures

    def mean_of(self, dicts: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
        """Averages each value over the micro-batches, so that the mean over all processes weights images equally."""
        return {
            key: cast(Tensor, sum(values[key].detach() / divisor for values, divisor in zip(dicts, self.divisors)))
            for key in dicts[0]
        }

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def evaluated_model(self) -> nn.Module:
        return self.averaged.module if self.averaged else self.task.model

    def synchronize(self, step: int) -> None:
        """Validates the weights and averages per-process state before a checkpoint."""
        if len(self.window):
            self.window.check(self.window.table(), step, self.task.name)
            distributed.average(self.window.rows)
        for model in (self.task.model, *([self.averaged.module] if self.averaged else [])):
            self.check_weights(model, step)
            distributed.average_statistics(model)

    def check_weights(self, model: nn.Module, step: int) -> None:
        """Raises NonFiniteLoss if the weights are not finite although the losses were."""
        if not torch.stack([parameter.isfinite().all() for parameter in model.parameters()]).all():
            raise NonFiniteLoss(
                f"The weights are not finite after step {step}, although its losses are: "
                "lower optim.lr or set optim.clip_norm; last.pth, if written, is from an earlier step."
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, except for the weights of the model."""
        return {
            "optimizer": saved_optimizer(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
        }

    def load_state_dict(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Raises a RuntimeError or ValueError for the state of another model or optimizer."""
        self.task.model.load_state_dict(weights)
        load_state(self.optimizer, state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.averaged and state["averaged"]:
            self.averaged.load_state(state["averaged"])
        elif self.averaged:  # a run that had no average before
            self.averaged.module.load_state_dict(weights)


def divisors(batch: int, accumulate: int, world: World) -> list[float]:
    """Returns the divisor of the loss of each micro-batch of this process: their number if all have the same size,
    otherwise the one that makes the mean over all processes the mean over all images."""
    local_batch = len(share(batch, world.rank, world.size))
    return [batch / (world.size * len(share(local_batch, number, accumulate))) for number in range(accumulate)]


def smaller_step(train: TrainConfig, world: World) -> str:
    """Returns the remedy for a step that does not fit into GPU memory."""
    most = train.batch // world.size
    parts = next((parts for parts in range(train.accumulate + 1, most + 1) if train.batch % parts == 0), None)
    first = f"set train.accumulate={parts}" if parts else "use smaller images"
    return f"{first}, or see 'Out of memory' in docs/faq.md"


def step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)
