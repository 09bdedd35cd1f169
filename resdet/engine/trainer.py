"""The trainer: takes steps, watches the figures, writes checkpoints, and goes on exactly where it was cut.

All randomness of a step follows from the seed and the step's number, so that a resumed run needs no random state and
gives the weights of an unbroken one: on a CPU the very same, on a GPU but for the last digits of its sums.

A checkpoint comes before whatever can fail or take long: before an evaluation it says that the evaluation is due, and
a run that goes on from there evaluates first.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resdet.engine import checkpoint, distributed
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.metric_buffer import MetricBuffer, NonFiniteLoss
from resdet.engine.optim import build_optimizer, load_state, scaled_lr
from resdet.engine.schedule import Schedule
from resdet.engine.signals import StopRequested, defer_signals
from resdet.engine.throughput import Throughput
from resdet.engine.training import TrainingTask
from resdet.errors import ConfigError, Error, FileError
from resdet.structures import Batch

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains a task into the folder `out`; `run` returns the best figures."""

    def __init__(
        self,
        task: TrainingTask,
        optim: OptimConfig,
        schedule: ScheduleConfig,
        train: TrainConfig,
        world: World,
        out: Path,
    ):
        self.task, self.optim, self.train, self.world, self.out = task, optim, train, world, out
        self.per_unit = task.training.steps_per_epoch if train.unit == "epochs" else 1.0
        self.total = self.steps(train.length)
        self.lr = scaled_lr(optim, train.batch)
        self.schedule = Schedule(schedule, self.lr, self.total, self.per_unit)

        layout = torch.channels_last if train.channels_last else torch.contiguous_format
        task.model.to(world.device).to(memory_format=layout)
        self.optimizer = build_optimizer(task.model, optim, self.lr)
        self.precision = choose_precision(train.precision, world.device)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.precision == "fp16")
        self.averaged = averaged_model(task.model, train.ema) if train.ema else None
        self.module = self.prepare_step_module()

        self.step = 0
        self.saved = 0  # step of the last checkpoint
        self.evaluation_due = False
        self.window = MetricBuffer()
        self.best: dict[str, float] | None = None
        self.waited = 0  # evaluations since the best
        self.signals = defer_signals()
        self.stopped = False  # by a signal, which some process received

    def steps(self, length: float) -> int:
        return max(1, round(length * self.per_unit))

    def prepare_step_module(self) -> nn.Module:
        """The task's step, compiled and shared among the processes where that is asked for."""
        step = self.task.step
        if self.train.compile:
            step.compile(mode=self.train.compile_mode, dynamic=False)
        if self.world.size == 1:
            return step
        devices = [self.world.device.index] if self.world.device.type == "cuda" else None
        with warnings.catch_warnings():
            # The argument's successor is not in all versions of torch that we work with.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(step, devices, broadcast_buffers=False, gradient_as_bucket_view=True)

    def run(self, log: Log) -> dict[str, float]:
        """Trains to the end, or to a stop; returns the figures of the best evaluation."""
        self.announce(log)
        with self.signals:
            try:
                self.loop(log)
            except StopRequested:
                self.stopped = True
        if self.stopped:
            log.say(f"stopped at step {self.step}; {self.how_to_go_on()}")
        return self.best or {}

    def announce(self, log: Log) -> None:
        base = self.optim.base_batch
        scaled = f", scaled from {self.optim.lr:g} for a batch of {base}" if base and base != self.train.batch else ""
        log.say(
            f"{self.total} steps of {self.train.batch} images, learning rate {self.lr:g}{scaled}, {self.precision} on "
            f"{self.world.device} ({self.world.size} process{'es' if self.world.size > 1 else ''}), into {self.out}"
        )

    def loop(self, log: Log) -> None:
        if self.evaluation_due:
            self.evaluate(log)
        if self.complete:
            early = ", where it stopped early (train.patience)" if self.stale else ""
            log.say(f"the run is complete: step {self.step} of {self.total}{early}")
            return
        with self.signals.abandon():  # an R-CNN's first batch may take hours: all proposals are computed before it
            batches = iter(self.task.training.batches(self.step))
        throughput = Throughput(self.train.batch)
        while not (self.complete or self.stopped):
            batch = self.next_batch(batches, throughput, log)
            if batch is not None:
                self.take_step(batch)
                self.step += 1
                self.conclude_step(log, throughput)
        if self.stale:
            log.say(f"stopping early: no better {self.task.monitor} in {self.waited} evaluations (train.patience)")

    @property
    def complete(self) -> bool:
        return not self.evaluation_due and (self.step >= self.total or self.stale)

    def next_batch(self, batches: Iterator[Batch], throughput: Throughput, log: Log) -> Batch | None:
        """The batch of the next step; None where the run stops before it.

        Between two steps the state is whole: whatever goes wrong with the data, it is saved first.
        """
        batch = failure = None
        try:
            batch = throughput.next(batches)
        except Exception as error:
            failure = error
        self.stopped = distributed.any_rank(failure is not None or self.signals.received is not None)
        if not self.stopped:
            return batch
        if self.saved < self.step:
            self.save()
        if failure is not None:
            with self.saying_how_to_go_on(log):
                raise failure
        return None

    def conclude_step(self, log: Log, throughput: Throughput) -> None:
        """What follows a step where its number says so: a reading, a checkpoint, an evaluation."""
        last = self.step == self.total
        if self.step % self.train.log_every == 0 or last:
            self.read_window(log, throughput)
        self.evaluation_due = last or self.step % self.steps(self.train.evaluate_every) == 0
        if self.evaluation_due or self.step % self.steps(self.train.checkpoint_every) == 0:
            with throughput.pause():
                self.save()
        if self.evaluation_due:
            self.stopped = distributed.any_rank(self.signals.received is not None)
            if not self.stopped:
                with throughput.pause():
                    self.evaluate(log)

    def take_step(self, batch: Batch) -> None:
        """One update from one batch, in `accumulate` parts."""
        torch.manual_seed(step_seed(self.train.seed, self.step, self.world.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(self.step)
        self.module.train()
        parts = batch.parts(self.train.accumulate)
        results = [self.backward(part, last=part is parts[-1]) for part in parts]
        losses, measures = (mean_of(dicts) for dicts in zip(*results))
        self.window.add(losses, measures, batch.indices)
        self.update()

    def backward(self, part: Batch, last: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Adds the gradients of one part; the processes exchange theirs with the last."""
        inputs = self.task.inputs(part, self.step)
        shared = isinstance(self.module, DistributedDataParallel)
        dtype = PRECISIONS.get(self.precision)
        with self.module.no_sync() if shared and not last else nullcontext():
            with torch.autocast(self.world.device.type, dtype, enabled=dtype is not None):
                losses, measures = self.module(*inputs)
            total = sum(losses.values()) / self.train.accumulate
            self.scaler.scale(total).backward()
        return losses, measures

    def update(self) -> None:
        if self.optim.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.optim.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update_parameters(self.task.model)

    def read_window(self, log: Log, throughput: Throughput) -> None:
        """Means since the last reading: checked, given to the schedule, logged."""
        table = self.window.table()
        self.window.check(table, self.step, self.task.name)
        means = table.mean(0).to(self.world.device)
        distributed.average([means])
        figures = dict(zip(self.window.names, means.tolist()))
        self.window.clear()
        if "error" in figures:
            self.schedule.observe_training_error(figures["error"])
        figures["lr"] = self.optimizer.param_groups[0]["lr"]
        figures |= throughput.read()
        log.metrics(self.step, "train", figures)
        left = (self.total - self.step) * self.train.batch / figures["images/s"]
        log.progress(self.step, "  ".join(f"{key} {value:.4g}" for key, value in figures.items()), left)

    def evaluated_model(self) -> nn.Module:
        return self.averaged.module if self.averaged else self.task.model

    def evaluate(self, log: Log) -> None:
        """Judges the model that was just saved, and saves what comes of it."""
        with self.signals.abandon(), self.saying_how_to_go_on(log):
            model = self.evaluated_model()
            if self.train.exact_statistics:
                self.task.exact_statistics(model, self.train.exact_statistics)
            self.observe(self.task.evaluate(model), log)
        self.evaluation_due = False
        self.save()

    def observe(self, figures: dict[str, float], log: Log) -> None:
        """Logs the figures, tells the schedule, and keeps the model if it is the best so far."""
        log.metrics(self.step, "val", figures)
        better = self.best is None or self.rank(figures) < self.rank(self.best)
        self.waited = 0 if better else self.waited + 1
        self.schedule.observe_evaluation(self.rank(figures))
        if better:
            self.best = {**figures, "step": self.step}
            if self.world.is_main:
                content = {"model": self.evaluated_model().state_dict(), **self.task.description()}
                checkpoint.write({**content, "figures": self.best}, self.out / checkpoint.BEST)
                self.task.keep(self.out)
        shown = "  ".join(f"{key} {figure:.4f}" for key, figure in figures.items())
        log.say(f"validation at step {self.step}: {shown}{'  (best so far)' if better else ''}")

    @contextmanager
    def saying_how_to_go_on(self, log: Log) -> Iterator[None]:
        """Adds to an error that the training is saved, where it is."""
        try:
            yield
        except FileError:
            raise  # a file that cannot be written says by itself how to go on
        except Error as error:
            if not self.saved:
                raise
            raise type(error)(f"{str(error).rstrip('.')}; {self.how_to_go_on()}.") from error
        except Exception:
            if self.signals.received is not None:
                raise StopRequested from None  # another process stopped sooner, and a collective failed
            log.warn(f"failed at step {self.step}; {self.how_to_go_on()}")
            raise

    def how_to_go_on(self) -> str:
        if not self.saved:
            return "there was nothing to save yet"
        return f"{self.out / checkpoint.LAST} of step {self.saved} is written, go on with --resume"

    def rank(self, figures: dict[str, float]) -> float:
        """The figure that decides, turned so that lower is better."""
        return figures[self.task.monitor] * (1 if self.task.lower_is_better else -1)

    @property
    def stale(self) -> bool:
        return checkpoint.is_stale(self.waited, self.train.patience)

    def save(self) -> None:
        """Everything that the next step depends on."""
        self.agree()
        if self.world.is_main:
            content = {"model": self.task.model.state_dict(), **self.task.description(), "trainer": self.state()}
            checkpoint.write(content, self.out / checkpoint.LAST)
        self.saved = self.step
        distributed.any_rank(False)  # nobody goes on to what may end the run before the checkpoint is whole

    def agree(self) -> None:
        """Before a checkpoint: weights are sound, and what is each process's own is made one."""
        if len(self.window):
            self.window.check(self.window.table(), self.step, self.task.name)
            distributed.average(self.window.rows)
        for model in (self.task.model, *([self.averaged.module] if self.averaged else [])):
            self.check_weights(model)
            distributed.average_statistics(model)

    def check_weights(self, model: nn.Module) -> None:
        """An update may spoil weights though the losses before it were finite; no checkpoint must hold such ones."""
        if not torch.stack([parameter.isfinite().all() for parameter in model.parameters()]).all():
            raise NonFiniteLoss(
                f"The weights are no longer finite after step {self.step}, whose losses were: "
                "lower optim.lr or set optim.clip_norm; last.pth, if written, is from before."
            )

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "total": self.total,
            "evaluation_due": self.evaluation_due,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "schedule": self.schedule.state_dict(),
            "window": self.window.state_dict(),
            "best": self.best,
            "waited": self.waited,
        }

    def resume(self) -> dict[str, Any]:
        """Takes up the state of `out`/last.pth, and returns what the task said of itself there."""
        content = checkpoint.read_last(self.out)
        state = content["trainer"]
        try:
            self.task.model.load_state_dict(content["model"])
            load_state(self.optimizer, state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.out / checkpoint.LAST} is of another model, or optimiser, than the config's: go on with that "
                "run's own config.yaml, or start a run of its own from its weights by --init and --out."
            ) from error
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.averaged and state["averaged"]:
            self.averaged.load_state_dict(state["averaged"])
        self.schedule.load_state_dict(state["schedule"])
        self.window.load_state_dict(state["window"], self.world.device)
        self.step, self.best, self.waited = state["step"], state["best"], state["waited"]
        self.saved = self.step
        self.evaluation_due = state.get("evaluation_due", False)  # older checkpoints come after their evaluation
        return {key: value for key, value in content.items() if key not in ("model", "trainer")}


def mean_of(dicts: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
    """The mean of each figure over the parts of a batch."""
    return {key: sum(figures[key].detach() for figures in dicts) / len(dicts) for key in dicts[0]}


def step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """torch's own exponential moving average, of the statistics of norms as well."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def choose_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 on devices that compute in it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"


def be_deterministic() -> None:
    """Bit-exact on the CPU; on a GPU with torch's deterministic kernels, and a warning where there are none.

    There are none for the gradients of RoIPool, of bilinear sampling and of adaptive pooling.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.backends.cudnn.benchmark = False
