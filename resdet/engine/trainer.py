"""The trainer: takes steps, monitors metrics, writes checkpoints, and resumes exactly.

The seed and the step number determine all randomness of a step, so that a resumed run needs no random state and yields
the weights of an uninterrupted one: bit-exact on a CPU, up to the rounding of sums on a GPU.

A checkpoint is written before any work that can fail or take long. Before an evaluation, it records that the evaluation
is due, and a run resumed from it evaluates first.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from resdet.cudnn import fastest_algorithms
from resdet.device_memory import EVALUATION_REMEDY, memory_remedy
from resdet.engine import checkpoint, distributed
from resdet.engine.callbacks import Callbacks
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.engine.distributed import LostProcess, World
from resdet.engine.eta import Remaining, Steps
from resdet.engine.log import Log
from resdet.engine.metric_buffer import MetricBuffer
from resdet.engine.optim import scaled_lr
from resdet.engine.pace import Pace
from resdet.engine.schedule import Schedule
from resdet.engine.signals import StopRequested, defer_signals
from resdet.engine.throughput import Throughput
from resdet.engine.train_step import TrainStep, smaller_step
from resdet.engine.training import TrainingTask
from resdet.errors import ConfigError, Error, FileError, number_of, spelled
from resdet.files.atomic import write_torch
from resdet.structures import Batch
from resdet.system import keep_freed_memory


class Trainer:
    """Trains a task in the folder `out`; `run` returns the best metrics."""

    def __init__(
        self,
        task: TrainingTask,
        optim: OptimConfig,
        schedule: ScheduleConfig,
        train: TrainConfig,
        world: World,
        out: Path,
    ):
        self.callbacks, self.log = Callbacks(), Log(None)
        self.task, self.optim, self.train, self.world, self.out = task, optim, train, world, out
        self.steps_per_epoch = task.training.steps_per_epoch if train.unit == "epochs" else None
        self.per_unit = self.steps_per_epoch or 1.0
        self.lr = scaled_lr(optim, train.batch)
        total = self.steps(train.length)
        self.schedule = Schedule(schedule, self.lr, total, self.per_unit)
        self.pace = Pace(total, self.interval(train.evaluate_every), train.minutes)
        self.throughput = Throughput(train.batch)

        self.window = MetricBuffer()
        self.train_step = TrainStep(task, optim, train, world, self.lr, self.window)
        self.smaller_step = smaller_step(train, world)  # remedy for an out-of-memory error

        self.step = 0
        self.saved = 0  # step of the last checkpoint
        self.evaluation_due = False
        self.best: dict[str, float] | None = None
        self.waited = 0  # evaluations since the best one
        self.signals = defer_signals()
        self.stopped = False  # by a signal to any process, or by a callback

    def steps(self, length: float) -> int:
        return max(1, round(length * self.per_unit))

    def interval(self, length: float) -> float:
        """Converts an interval to steps; an epoch may have a fractional number of steps."""
        return max(1.0, length * self.per_unit)

    @property
    def total(self) -> int:
        """Total steps of the run."""
        return self.step + self.pace.remaining

    @property
    def monitor(self) -> str:
        """The metric that selects the best checkpoint."""
        return self.train.monitor or self.task.monitor

    def length(self) -> str:
        minutes = self.train.minutes
        if minutes is None:
            return number_of(self.total, "step")
        return f"{minutes:g} {'minute' if minutes == 1 else 'minutes'} (train.minutes) in steps"

    def run(self, log: Log) -> dict[str, float]:
        """Trains to the end or to a stop; returns the metrics of the best evaluation."""
        self.log = log
        self.announce()
        with self.signals:
            self.callbacks.train_start()
            try:
                with distributed.tell_loss(lambda: f"after step {self.step}; {self.resume_hint()}"):
                    self.loop()
            except StopRequested:
                self.stopped = True
            except LostProcess:
                if self.signals.received is None:
                    raise
                self.stopped = True  # the other process stopped first
            self.callbacks.call("on_train_end")
        if self.stopped:
            self.log.info(f"stopped at step {self.step}; {self.resume_hint()}")
        if self.callbacks.failure:
            with self.with_resume_hint():
                raise self.callbacks.failure
        return self.best or {}

    def announce(self) -> None:
        base = self.optim.base_batch
        scaled = f", scaled from {self.optim.lr:g} for a batch of {base}" if base and base != self.train.batch else ""
        self.log.info(
            f"{self.length()} of {number_of(self.train.batch, 'image')}, learning rate {self.lr:g}{scaled}, "
            f"{self.train_step.precision} on {self.world.device} ({self.processes()}), into {self.out}"
        )
        if self.train_step.precision == "fp16" and self.world.device.type == "cpu":
            self.log.info("CPUs compute convolutions in fp16 very slowly: set train.precision=auto")

    def processes(self) -> str:
        size, batch = self.world.size, self.train.batch
        if size == 1:
            return "1 process"
        least, most = batch // size, -(-batch // size)
        share = number_of(least, "image") if most == least else f"{least} or {most} images"
        return f"{size} processes of {share} a step"

    def loop(self) -> None:
        keep_freed_memory()
        self.stopped = distributed.any_rank(self.stop_requested)
        if self.evaluation_due and not self.stopped:
            self.evaluate()
        if self.complete:
            more = ", where it stopped early (train.patience)" if self.stale else "; a larger train.length continues it"
            self.log.info(f"the run is complete: step {self.step} of {self.total}{more}")
            return
        with self.signals.abandon():  # may take hours: a localizer R-CNN computes all proposals before its first batch
            batches = iter(self.task.training.batches(self.step))
        with Steps(Remaining(self.pace, self.throughput), self.step, self.total) as steps:
            while not (self.complete or self.stopped):
                batch = self.next_batch(batches)
                if batch is not None:
                    with self.with_resume_hint():
                        self.take_step(batch)
                    self.step += 1
                    self.pace.advance()
                    self.conclude_step(steps)
        if self.stale:
            waited = number_of(self.waited, "evaluation")
            self.log.info(f"stopping early: no better {self.monitor} in {waited} (train.patience)")

    @property
    def stop_requested(self) -> bool:
        """Whether a signal or a callback of this process requests a stop."""
        return self.signals.received is not None or self.callbacks.stop_requested

    @property
    def complete(self) -> bool:
        return not self.evaluation_due and (self.pace.done or self.stale)

    def next_batch(self, batches: Iterator[Batch]) -> Batch | None:
        """Returns the batch of the next step; None if the run stops before it.

        If the data raises an error, first saves the state, which is consistent between two steps.
        """
        batch = failure = None
        try:
            batch = self.throughput.next(batches)
        except Exception as error:
            failure = error
        self.stopped = distributed.any_rank(failure is not None or self.stop_requested)
        if not self.stopped:
            return batch
        if self.saved < self.step:
            self.save()
        if failure is not None:
            with self.with_resume_hint():
                raise failure
        return None

    def conclude_step(self, steps: Steps) -> None:
        """Logs metrics, saves a checkpoint and evaluates if they are due after this step."""
        if self.throughput.warm and self.pace.fits_after(self.step, self.train.log_every):
            self.fit_pace(self.seconds_per_step())
        steps.done, steps.total = self.step, self.total
        last = self.pace.done
        values: dict[str, float] = {}
        if self.step % self.train.log_every == 0 or last:
            values = self.read_window(steps)
        self.callbacks.call("on_step_end", self.step, values)
        self.evaluation_due = last or self.pace.crossed(self.pace.evaluate_every)
        if self.evaluation_due or self.pace.crossed(self.interval(self.train.checkpoint_every)):
            with self.throughput.pause():
                self.save()
        if self.evaluation_due:
            self.stopped = distributed.any_rank(self.stop_requested)
            if not self.stopped:
                with self.throughput.pause():
                    self.evaluate()

    def fit_pace(self, seconds_per_step: float) -> None:
        """Fits the speed of the schedule, and the interval of evaluations, to the remaining time."""
        self.pace.adopt(*distributed.from_main(lambda: self.pace.fitted(seconds_per_step)))

    def seconds_per_step(self) -> float:
        """Returns the mean duration of the last steps; synchronizes with the device."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        return self.throughput.seconds_per_step()

    def take_step(self, batch: Batch) -> None:
        """Updates the weights from one batch."""
        with memory_remedy(f"A step of {self.train.batch} images", self.smaller_step):
            with fastest_algorithms():  # the loader pads to few shapes; evaluations have many
                self.train_step(batch, self.step, self.schedule.lr(self.pace.position))

    def read_window(self, steps: Steps) -> dict[str, float]:
        """Validates, logs and returns the mean losses and measures since the last call, and updates the schedule."""
        table = self.window.table()
        self.window.check(table, self.step, self.task.name)
        means = table.mean(0).to(self.world.device)
        distributed.average([means])
        metrics = dict(zip(self.window.names, means.tolist()))
        self.window.clear()
        if "error" in metrics:
            self.schedule.observe_training_error(metrics["error"])
        metrics["lr"] = self.train_step.lr
        metrics |= self.throughput.read()
        self.log.metrics(self.step, "train", metrics)
        steps.metrics = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        steps.report()
        return metrics

    def evaluate(self) -> None:
        """Evaluates the model that was just saved, and saves the result."""
        started = self.pace.clock()
        with self.signals.abandon(), self.with_resume_hint():
            model = self.train_step.evaluated_model()
            if self.train.exact_statistics:
                self.task.exact_statistics(model, self.train.exact_statistics)
            with memory_remedy("The evaluation", EVALUATION_REMEDY):
                metrics = self.task.evaluate(model)
            self.observe(metrics)
            self.train_step.module.train()
        self.pace.conclude_evaluation(self.pace.clock() - started)
        step = self.throughput.typical_step()  # the current window may contain few steps
        if self.pace.refits and step is not None:
            self.fit_pace(step)
        self.evaluation_due = False
        self.save()
        self.callbacks.call("on_evaluation_end", self.step, {**metrics})

    def observe(self, metrics: dict[str, float]) -> None:
        """Logs the metrics, updates the schedule, and saves the model if it is the best so far."""
        self.log.metrics(self.step, "val", metrics)
        # A run may be resumed with another metric, which its best evaluation lacks. NaN can only be best as the first
        # value.
        best = math.nan if self.best is None else self.best.get(self.monitor, math.nan)
        rank = self.rank(metrics)
        improved = not math.isnan(rank) and (math.isnan(best) or rank < self.rank({self.monitor: best}))
        better = improved or self.best is None
        self.waited = 0 if better else self.waited + 1
        self.schedule.observe_evaluation(improved)
        if better:
            self.best = {**metrics, "step": self.step}
            if self.world.is_main:
                content = {"model": self.train_step.evaluated_model().state_dict(), **self.task.description()}
                write_torch(self.out / checkpoint.BEST, {**content, "figures": self.best})
                self.callbacks.call("on_checkpoint", self.out / checkpoint.BEST)
                self.task.keep(self.out)
        text = "  ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        self.log.info(f"validation at step {self.step}: {text}{'  (best so far)' if better else ''}")
        if self.log.loggers and self.train.log_images:
            self.log.images(self.step, self.task.pictures(self.train.log_images))

    @contextmanager
    def with_resume_hint(self) -> Iterator[None]:
        """Adds to an error how to resume, if a checkpoint exists."""
        try:
            yield
        except FileError:
            raise  # the message already has a remedy
        except Error as error:
            if not self.saved:
                raise
            error.args = (f"{str(error).rstrip('.')}; {self.resume_hint()}.",)
            raise
        except Exception as error:
            if self.signals.received is not None:
                raise StopRequested from None  # another process stopped first, and a collective failed
            if distributed.is_loss(error):
                raise
            self.log.warn(f"failed at step {self.step}; {self.resume_hint()}")
            raise

    def resume_hint(self) -> str:
        if not self.saved:
            return "there is no checkpoint yet"
        return f"{self.out / checkpoint.LAST} of step {self.saved} is saved, continue with --resume"

    def rank(self, metrics: dict[str, float]) -> float:
        """Returns the monitored metric, negated if higher is better."""
        check_monitor(self.monitor, [*metrics])
        return metrics[self.monitor] * (1 if self.task.lower_is_better(self.monitor) else -1)

    @property
    def stale(self) -> bool:
        return checkpoint.is_stale(self.waited, self.train.patience)

    def save(self) -> None:
        """Writes the complete training state to last.pth."""
        self.train_step.synchronize(self.step)
        if self.world.is_main:
            content = {"model": self.task.model.state_dict(), **self.task.description(), "trainer": self.state()}
            write_torch(self.out / checkpoint.LAST, content)
            self.callbacks.call("on_checkpoint", self.out / checkpoint.LAST)
        self.saved = self.step
        distributed.any_rank(False)  # wait until the checkpoint is complete, since later work may end the run

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "total": self.total,
            "pace": self.pace.state_dict(),
            "steps_per_epoch": self.steps_per_epoch,
            "evaluation_due": self.evaluation_due,
            **self.train_step.state_dict(),
            "schedule": self.schedule.state_dict(),
            "window": self.window.state_dict(),
            "best": self.best,
            "waited": self.waited,
        }

    def resume(self) -> dict[str, Any]:
        """Loads the state from `out`/last.pth and returns the task's description in it."""
        content = checkpoint.read_last(self.out)
        known, classes = (each.get("classes") or [] for each in (content, self.task.description()))
        checkpoint.check_classes(known, classes, self.out / checkpoint.LAST)
        state = content["trainer"]
        try:
            self.train_step.load_state_dict(content["model"], state)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.out / checkpoint.LAST} has another model or optimizer than the config: resume with the "
                "config.yaml of that run, or start a new run from its weights by --init and --out."
            ) from error
        self.schedule.load_state_dict(state["schedule"])
        self.window.load_state_dict(state["window"], self.world.device)
        self.step, self.best, self.waited = state["step"], state["best"], state["waited"]
        former = state.get("steps_per_epoch")  # with another batch size or data, the run continues in the same epoch
        scale = self.steps_per_epoch / former if self.steps_per_epoch and former else 1.0
        self.pace.load_state_dict(state.get("pace") or {"position": float(self.step)}, scale)
        self.saved = self.step
        self.evaluation_due = state.get("evaluation_due", False)  # older checkpoints were written after the evaluation
        return {key: value for key, value in content.items() if key not in ("model", "trainer")}


def check_monitor(metric: str, known: Sequence[str]) -> None:
    """Raises a ConfigError unless the metric is among those of the evaluations."""
    if metric not in known:
        problem = f"train.monitor is {spelled(metric)}, which the evaluations do not compute"
        raise ConfigError(f"{problem}: choose one of {', '.join(known)}, or null.", "train.monitor")


def be_deterministic() -> None:
    """Enables determinism: bit-exact on the CPU; on a GPU, torch's deterministic kernels, with warnings for operators
    without one.

    The gradients of RoIPool, bilinear sampling and adaptive pooling have no deterministic kernels.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.backends.cudnn.benchmark = False
