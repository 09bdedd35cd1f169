"""The trainer: takes steps, monitors metrics, writes checkpoints, and resumes exactly.

The seed and the step number determine all randomness of a step, so that a resumed run needs no random state and gives
the weights of an uninterrupted one: bit-exact on a CPU, up to rounding of sums on a GPU.

A checkpoint precedes whatever can fail or take long: before an evaluation it records that the evaluation is due, and a
run resumed from it evaluates first.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resdet.cudnn import fastest_algorithms
from resdet.engine import checkpoint, distributed
from resdet.engine.callbacks import Callbacks
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.engine.cuda_graph import GraphedStep, StepInputs, uses_graph
from resdet.engine.ddp import in_parallel
from resdet.engine.distributed import LostProcess, World
from resdet.engine.ema import ModelEMA
from resdet.engine.log import Log
from resdet.engine.metric_buffer import MetricBuffer, NonFiniteLoss
from resdet.engine.optim import build_optimizer, load_state, saved_optimizer, scaled_lr, set_lr
from resdet.engine.pace import WARM, Pace
from resdet.engine.precision import PRECISIONS, choose_precision
from resdet.engine.remaining import Remaining, Steps
from resdet.engine.schedule import Schedule
from resdet.engine.signals import StopRequested, defer_signals
from resdet.engine.throughput import Throughput
from resdet.engine.training import TrainingTask
from resdet.errors import ConfigError, Error, FileError
from resdet.structures import Batch, share


class Trainer:
    """Trains a task into the folder `out`; `run` returns the best metrics."""

    def __init__(
        self,
        task: TrainingTask,
        optim: OptimConfig,
        schedule: ScheduleConfig,
        train: TrainConfig,
        world: World,
        out: Path,
    ):
        self.callbacks = Callbacks()
        self.task, self.optim, self.train, self.world, self.out = task, optim, train, world, out
        self.per_unit = task.training.steps_per_epoch if train.unit == "epochs" else 1.0
        self.lr = scaled_lr(optim, train.batch)
        total = self.steps(train.length)
        self.schedule = Schedule(schedule, self.lr, total, self.per_unit)
        self.pace = Pace(total, self.steps(train.evaluate_every), train.minutes)
        self.remaining = Remaining(self.pace)

        layout = torch.channels_last if train.channels_last else torch.contiguous_format
        task.model.to(world.device).to(memory_format=layout)
        self.divisors = divisors(train.batch, train.accumulate, world)
        self.precision = choose_precision(train.precision, world.device)
        graph = uses_graph(train, self.precision, world)
        self.optimizer = build_optimizer(task.model, optim, self.lr, graph)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.precision == "fp16")
        self.averaged = ModelEMA(task.model, train.ema) if train.ema else None
        self.module = self.prepare_step_module().train()
        self.update: Callable[[StepInputs], Tensor] = self.update_weights
        if graph:
            self.update = GraphedStep(self.update_weights, self.optimizer.zero_grad)

        self.step = 0
        self.saved = 0  # step of the last checkpoint
        self.evaluation_due = False
        self.window = MetricBuffer()
        self.best: dict[str, float] | None = None
        self.waited = 0  # evaluations since the best
        self.signals = defer_signals()
        self.stopped = False  # by a signal to any process, or by a callback

    def steps(self, length: float) -> int:
        return max(1, round(length * self.per_unit))

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.step + self.pace.remaining

    def length(self) -> str:
        minutes = self.train.minutes
        return f"{self.total} steps" if minutes is None else f"{minutes:g} minutes (train.minutes) in steps"

    def prepare_step_module(self) -> nn.Module:
        """The task's step module, compiled if configured, and wrapped for several processes."""
        step = self.task.step
        if self.train.compile:
            step.compile(mode=self.train.compile_mode, dynamic=False)
        if self.world.size == 1:
            return step
        return in_parallel(step, self.train.ddp, self.world.device)

    def run(self, log: Log) -> dict[str, float]:
        """Trains to the end, or to a stop; returns the metrics of the best evaluation."""
        self.announce(log)
        with self.signals:
            self.callbacks.train_start()
            try:
                with distributed.tell_loss(lambda: f"after step {self.step}; {self.resume_hint()}"):
                    self.loop(log)
            except StopRequested:
                self.stopped = True
            except LostProcess:
                if self.signals.received is None:
                    raise
                self.stopped = True  # the other process stopped first
            self.callbacks.call("on_train_end")
        if self.stopped:
            log.info(f"stopped at step {self.step}; {self.resume_hint()}")
        if self.callbacks.failure:
            with self.with_resume_hint(log):
                raise self.callbacks.failure
        return self.best or {}

    def announce(self, log: Log) -> None:
        base = self.optim.base_batch
        scaled = f", scaled from {self.optim.lr:g} for a batch of {base}" if base and base != self.train.batch else ""
        log.info(
            f"{self.length()} of {self.train.batch} images, learning rate {self.lr:g}{scaled}, {self.precision} on "
            f"{self.world.device} ({self.processes()}), into {self.out}"
        )

    def processes(self) -> str:
        size, batch = self.world.size, self.train.batch
        if size == 1:
            return "1 process"
        least, most = batch // size, -(-batch // size)
        return f"{size} processes of {least}{f' or {most}' if most > least else ''} images a step"

    def loop(self, log: Log) -> None:
        self.stopped = self.stop_is_due()
        if self.evaluation_due and not self.stopped:
            self.evaluate(log)
        if self.complete:
            early = ", where it stopped early (train.patience)" if self.stale else ""
            log.info(f"the run is complete: step {self.step} of {self.total}{early}")
            return
        with (
            self.signals.abandon()
        ):  # the first batch may take hours: a localizer R-CNN computes all proposals before it
            batches = iter(self.task.training.batches(self.step))
        throughput = Throughput(self.train.batch)
        with Steps(self.remaining, self.step, self.total) as steps:
            while not (self.complete or self.stopped):
                batch = self.next_batch(batches, throughput, log)
                if batch is not None:
                    with fastest_algorithms():  # a loader pads to few shapes; evaluations see many
                        self.take_step(batch)
                    self.step += 1
                    self.pace.advance()
                    self.conclude_step(log, throughput, steps)
                    if self.train.minutes and self.step == WARM:
                        throughput.reset()
        if self.stale:
            log.info(f"stopping early: no better {self.task.monitor} in {self.waited} evaluations (train.patience)")

    def stop_is_due(self) -> bool:
        """Whether a signal or a callback of any process requests a stop."""
        return distributed.any_rank(self.signals.received is not None or self.callbacks.stop_requested)

    @property
    def complete(self) -> bool:
        return not self.evaluation_due and (self.pace.done or self.stale)

    def next_batch(self, batches: Iterator[Batch], throughput: Throughput, log: Log) -> Batch | None:
        """The batch of the next step; None if the run stops before it.

        Saves the state, which is consistent between two steps, before it raises an error of the data.
        """
        batch = failure = None
        try:
            batch = throughput.next(batches)
        except Exception as error:
            failure = error
        requested = self.signals.received is not None or self.callbacks.stop_requested
        self.stopped = distributed.any_rank(failure is not None or requested)
        if not self.stopped:
            return batch
        if self.saved < self.step:
            self.save()
        if failure is not None:
            with self.with_resume_hint(log):
                raise failure
        return None

    def conclude_step(self, log: Log, throughput: Throughput, steps: Steps) -> None:
        """Logs metrics, saves a checkpoint and evaluates if they are due after this step."""
        if self.pace.fits_after(self.step, self.train.log_every):
            self.fit_pace(throughput)
        self.remaining.count_step()
        steps.done, steps.total = self.step, self.total
        last = self.pace.done
        values: dict[str, float] = {}
        if self.step % self.train.log_every == 0 or last:
            values = self.read_window(log, throughput, steps)
        self.callbacks.call("on_step_end", self.step, values)
        self.evaluation_due = last or self.pace.crossed(self.pace.evaluate_every)
        if self.evaluation_due or self.pace.crossed(self.steps(self.train.checkpoint_every)):
            with throughput.pause(), self.remaining.pause():
                self.save()
        if self.evaluation_due:
            self.stopped = self.stop_is_due()
            if not self.stopped:
                started = self.pace.clock()
                with throughput.pause(), self.remaining.evaluation():
                    self.evaluate(log)
                self.pace.evaluation = self.pace.clock() - started

    def fit_pace(self, throughput: Throughput) -> None:
        """Fits the speed in the schedule to the time that is left, by the duration of the last steps."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        self.pace.speed = distributed.from_main(lambda: self.pace.fitted(throughput.seconds_per_step()))

    def take_step(self, batch: Batch) -> None:
        """One update from one batch, in `accumulate` micro-batches."""
        torch.manual_seed(step_seed(self.train.seed, self.step, self.world.rank))
        set_lr(self.optimizer, self.schedule.lr(self.pace.position))
        inputs = [self.task.inputs(part, self.step) for part in batch.parts(self.train.accumulate)]
        self.window.add(self.update(inputs), batch.indices)

    def update_weights(self, inputs: StepInputs) -> Tensor:
        """Updates the weights by the gradient of all micro-batches; returns the mean losses and measures [K]."""
        last = inputs[-1]
        results = [self.backward(part, divisor, part is last) for part, divisor in zip(inputs, self.divisors)]
        losses, measures = (self.mean_of(dicts) for dicts in zip(*results))
        row = self.window.row(losses, measures)
        if self.optim.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.optim.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update(self.task.model)
        return row

    def backward(
        self, inputs: tuple[Any, ...], divisor: float, last: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Accumulates the gradients of one micro-batch; processes exchange gradients with the last one."""
        module, dtype = self.module, PRECISIONS.get(self.precision)
        with module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext():
            with torch.autocast(self.world.device.type, dtype, enabled=dtype is not None):
                losses, measures = module(*inputs)
            total = sum(losses.values()) / divisor
            self.scaler.scale(total).backward()
        return losses, measures

    def mean_of(self, dicts: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
        """The mean of each value over the micro-batches, so that the mean over all processes counts images alike."""
        return {
            key: cast(Tensor, sum(values[key].detach() / divisor for values, divisor in zip(dicts, self.divisors)))
            for key in dicts[0]
        }

    def read_window(self, log: Log, throughput: Throughput, steps: Steps) -> dict[str, float]:
        """Validates, logs and returns the mean losses and measures since the last call, and updates the schedule."""
        table = self.window.table()
        self.window.check(table, self.step, self.task.name)
        means = table.mean(0).to(self.world.device)
        distributed.average([means])
        metrics = dict(zip(self.window.names, means.tolist()))
        self.window.clear()
        if "error" in metrics:
            self.schedule.observe_training_error(metrics["error"])
        metrics["lr"] = float(self.optimizer.param_groups[0]["lr"])
        metrics |= throughput.read()
        self.remaining.close_window()
        log.metrics(self.step, "train", metrics)
        steps.metrics = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        steps.report()
        return metrics

    def evaluated_model(self) -> nn.Module:
        return self.averaged.module if self.averaged else self.task.model

    def evaluate(self, log: Log) -> None:
        """Evaluates the model that was just saved, and saves the result."""
        with self.signals.abandon(), self.with_resume_hint(log):
            model = self.evaluated_model()
            if self.train.exact_statistics:
                self.task.exact_statistics(model, self.train.exact_statistics)
            metrics = self.task.evaluate(model)
            self.observe(metrics, log)
            self.module.train()
        self.evaluation_due = False
        self.save()
        self.callbacks.call("on_evaluation_end", self.step, metrics)

    def observe(self, metrics: dict[str, float], log: Log) -> None:
        """Logs the metrics, updates the schedule, and saves the model if it is the best so far."""
        log.metrics(self.step, "val", metrics)
        # A run may be resumed with another metric, which its best evaluation lacks.
        comparable = self.best is not None and self.task.monitor in self.best
        better = not comparable or self.rank(metrics) < self.rank(cast(dict[str, float], self.best))
        self.waited = 0 if better else self.waited + 1
        self.schedule.observe_evaluation(self.rank(metrics))
        if better:
            self.best = {**metrics, "step": self.step}
            if self.world.is_main:
                content = {"model": self.evaluated_model().state_dict(), **self.task.description()}
                checkpoint.write({**content, "figures": self.best}, self.out / checkpoint.BEST)
                self.callbacks.call("on_checkpoint", self.out / checkpoint.BEST)
                self.task.keep(self.out)
        text = "  ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        log.info(f"validation at step {self.step}: {text}{'  (best so far)' if better else ''}")
        if log.loggers and self.train.log_images:
            log.images(self.step, self.task.pictures(self.train.log_images))

    @contextmanager
    def with_resume_hint(self, log: Log) -> Iterator[None]:
        """Adds to an error how to resume, if a checkpoint exists."""
        try:
            yield
        except FileError:
            raise  # its message has a remedy
        except Error as error:
            if not self.saved:
                raise
            raise type(error)(f"{str(error).rstrip('.')}; {self.resume_hint()}.") from error
        except Exception as error:
            if self.signals.received is not None:
                raise StopRequested from None  # another process stopped first, and a collective failed
            if distributed.is_loss(error):
                raise
            log.warn(f"failed at step {self.step}; {self.resume_hint()}")
            raise

    def resume_hint(self) -> str:
        if not self.saved:
            return "there is no checkpoint yet"
        return f"{self.out / checkpoint.LAST} of step {self.saved} is saved, continue with --resume"

    def rank(self, metrics: dict[str, float]) -> float:
        """The monitored metric, negated if higher is better."""
        return metrics[self.task.monitor] * (1 if self.task.lower_is_better else -1)

    @property
    def stale(self) -> bool:
        return checkpoint.is_stale(self.waited, self.train.patience)

    def save(self) -> None:
        """Writes the complete training state to last.pth."""
        self.synchronize()
        if self.world.is_main:
            content = {"model": self.task.model.state_dict(), **self.task.description(), "trainer": self.state()}
            checkpoint.write(content, self.out / checkpoint.LAST)
            self.callbacks.call("on_checkpoint", self.out / checkpoint.LAST)
        self.saved = self.step
        distributed.any_rank(False)  # wait until the checkpoint is complete, since later work may end the run

    def synchronize(self) -> None:
        """Validates the weights and averages per-process state before a checkpoint."""
        if len(self.window):
            self.window.check(self.window.table(), self.step, self.task.name)
            distributed.average(self.window.rows)
        for model in (self.task.model, *([self.averaged.module] if self.averaged else [])):
            self.check_weights(model)
            distributed.average_statistics(model)

    def check_weights(self, model: nn.Module) -> None:
        """Raises NonFiniteLoss for weights that an update from finite losses made non-finite."""
        if not torch.stack([parameter.isfinite().all() for parameter in model.parameters()]).all():
            raise NonFiniteLoss(
                f"The weights are not finite after step {self.step}, although its losses are: "
                "lower optim.lr or set optim.clip_norm; last.pth, if written, is from an earlier step."
            )

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "total": self.total,
            "pace": self.pace.state_dict(),
            "evaluation_due": self.evaluation_due,
            "optimizer": saved_optimizer(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "schedule": self.schedule.state_dict(),
            "window": self.window.state_dict(),
            "best": self.best,
            "waited": self.waited,
        }

    def resume(self) -> dict[str, Any]:
        """Loads the state of `out`/last.pth and returns the task's description in it."""
        content = checkpoint.read_last(self.out)
        state = content["trainer"]
        try:
            self.task.model.load_state_dict(content["model"])
            load_state(self.optimizer, state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.out / checkpoint.LAST} has another model or optimizer than the config: resume with the "
                "config.yaml of that run, or start a new run from its weights by --init and --out."
            ) from error
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.averaged and state["averaged"]:
            self.averaged.load_state(state["averaged"])
        elif self.averaged:  # the run had no average before
            self.averaged.module.load_state_dict(content["model"])
        self.schedule.load_state_dict(state["schedule"])
        self.window.load_state_dict(state["window"], self.world.device)
        self.step, self.best, self.waited = state["step"], state["best"], state["waited"]
        self.pace.load_state_dict(state.get("pace") or {"position": float(self.step)})
        self.saved = self.step
        self.evaluation_due = state.get("evaluation_due", False)  # older checkpoints were written after the evaluation
        return {key: value for key, value in content.items() if key not in ("model", "trainer")}


def divisors(batch: int, accumulate: int, world: World) -> list[float]:
    """What divides the loss of each micro-batch of this process, so that the mean over all processes is that of all
    images: the number of micro-batches if all have the same size."""
    own = len(share(batch, world.rank, world.size))
    return [batch / (world.size * len(share(own, number, accumulate))) for number in range(accumulate)]


def step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def be_deterministic() -> None:
    """Enables determinism: bit-exact on the CPU; on a GPU, torch's deterministic kernels and warnings without one.

    The gradients of RoIPool, bilinear sampling and adaptive pooling have no deterministic kernels.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.backends.cudnn.benchmark = False
