"""Trainer config; does not import torch. Every length is in `train.unit`: steps or epochs."""

from dataclasses import dataclass, field
from typing import Literal

from resdet.errors import require


@dataclass
class OptimConfig:
    """Section 3.4: SGD, momentum 0.9, weight decay 0.0001, on every parameter."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    base_batch: int | None = None  # lr is for this batch size and scales linearly to train.batch; null: no scaling
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    weight_decay: float = 1e-4
    decay_norm_and_bias: bool = True  # the paper decays all parameters; today norms and biases are often excluded
    clip_norm: float | None = None  # maximum norm of the gradients

    def __post_init__(self):
        require(self.lr > 0, "optim.lr", self.lr, "give a learning rate above zero")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "it cannot be negative")
        require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "it lies between 0 and 1")
        require(
            self.base_batch is None or self.base_batch > 0,
            "optim.base_batch",
            self.base_batch,
            "give a number of images",
        )
        require(
            self.clip_norm is None or self.clip_norm > 0,
            "optim.clip_norm",
            self.clip_norm,
            "give a positive norm, or null",
        )


@dataclass
class ScheduleConfig:
    """The learning rate schedule. `plateau` divides it "when the error plateaus" (section 3.4)."""

    name: Literal["step", "cosine", "constant", "plateau"] = "step"
    milestones: list[float] = field(default_factory=list)  # step: lr is multiplied by gamma at each
    gamma: float = 0.1
    final: float = 0.0  # cosine: final fraction of lr
    patience: int = 5  # plateau: evaluations without improvement before lr is multiplied by gamma
    warmup: float = 0.0  # length of a linear warmup from zero
    warmup_until_error: float | None = (
        None  # lr is warmup_lr until the training error falls below this (section 4.2: 0.8)
    )
    warmup_lr: float = 0.01

    def __post_init__(self):
        ordered = all(a < b for a, b in zip(self.milestones, self.milestones[1:]))
        require(ordered, "schedule.milestones", list(self.milestones), "list them in growing order")
        require(0 < self.gamma < 1, "schedule.gamma", self.gamma, "it lies between 0 and 1")
        require(self.warmup >= 0, "schedule.warmup", self.warmup, "it cannot be negative")
        limit = self.warmup_until_error
        require(
            limit is None or 0 < limit < 1,
            "schedule.warmup_until_error",
            limit,
            "give an error between 0 and 1, or null",
        )
        require(self.patience > 0, "schedule.patience", self.patience, "give one evaluation or more")


@dataclass
class DDPConfig:
    """Communication of several processes (torch's DistributedDataParallel)."""

    timeout: float = 1800  # seconds that a process waits for another one
    bucket_cap_mb: float = 25  # gradients that are averaged at once, while others are computed
    gradient_as_bucket_view: bool = True  # gradients share the memory of the buckets
    static_graph: bool = False  # promises that each step uses the same parameters in the same order
    compress: Literal["fp16", "bf16", "powersgd"] | None = None  # of gradients between processes; null: exact
    powersgd_rank: int = 1
    powersgd_start: int = 1000  # first step with PowerSGD

    def __post_init__(self):
        for key in ("timeout", "bucket_cap_mb", "powersgd_rank"):
            require(getattr(self, key) > 0, f"train.ddp.{key}", getattr(self, key), "it must be above zero")
        # DistributedDataParallel rearranges its buckets after the first step.
        require(self.powersgd_start > 2, "train.ddp.powersgd_start", self.powersgd_start, "give 3 or more")


@dataclass
class TrainConfig:
    """Config of a training run."""

    unit: Literal["steps", "epochs"] = "epochs"
    length: float = 90
    # Time of the run with its evaluations: all lengths of the config are stretched or compressed alike to fit it.
    minutes: float | None = None
    batch: int = 256  # images per step, over all processes
    accumulate: int = 1  # gradient accumulation: number of micro-batches per step
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 if the device supports it
    channels_last: bool = True
    compile: bool = False
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    graph: Literal["auto"] | bool = False  # CUDA graphs of whole steps; auto: on one GPU, except in fp16
    ema: float | None = None  # decay of an exponential moving average of the weights, which evaluations then use
    exact_statistics: int = (
        0  # images over which batch norm's statistics are averaged before each evaluation (appendix A)
    )
    seed: int = 0
    deterministic: bool = False
    device: str = "auto"
    evaluate_every: float = 1
    checkpoint_every: float = 1
    log_every: int = 50  # steps
    # tensorboard, csv, wandb, mlflow, or module:Class; null: tensorboard if it is installed
    loggers: list[str] | None = None
    log_images: int = 4  # validation images, with results, for the loggers at each evaluation; 0: none
    callbacks: list[str] = field(default_factory=list)  # module:Class, or the names of registered ones
    patience: int | None = None  # early stopping: evaluations without improvement
    ddp: DDPConfig = field(default_factory=DDPConfig)  # several processes

    def __post_init__(self):
        for key in ("length", "evaluate_every", "checkpoint_every", "batch", "accumulate", "log_every"):
            require(getattr(self, key) > 0, f"train.{key}", getattr(self, key), "it must be above zero")
        remedy = f"give a divisor of train.batch, which is {self.batch}"
        require(self.batch % self.accumulate == 0, "train.accumulate", self.accumulate, remedy)
        require(
            self.accumulate == 1 or not self.ddp.static_graph,
            "train.ddp.static_graph",
            self.ddp.static_graph,
            "use false with train.accumulate above 1, whose last micro-batch differs from the others",
        )
        require(
            self.accumulate == 1 or not self.compile or self.compile_mode == "default",
            "train.compile_mode",
            self.compile_mode,
            "its graphs reuse the memory of a micro-batch for the next one; use default with train.accumulate above 1",
        )
        require(
            self.ema is None or 0 < self.ema < 1, "train.ema", self.ema, "a decay lies between 0 and 1, as in 0.9999"
        )
        require(self.log_images >= 0, "train.log_images", self.log_images, "give 0 (none) or a number of images")
        for key in ("loggers", "callbacks"):
            names = getattr(self, key) or []
            require(len(set(names)) == len(names), f"train.{key}", names, "name each once")
        require(self.minutes is None or self.minutes > 0, "train.minutes", self.minutes, "give a time above 0, or null")
        require(self.patience is None or self.patience > 0, "train.patience", self.patience, "give 1 or more, or null")
