"""Trainer config; does not import torch. Every length is in `train.unit`: steps or epochs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from resdet.errors import require


@dataclass
class OptimConfig:
    """The optimizer. Defaults are those of section 3.4: SGD, momentum 0.9, weight decay 0.0001, on every parameter."""

    name: Literal["sgd", "adamw"] = "sgd"  # SGD with momentum, as in the paper, or AdamW
    lr: float = 0.1  # learning rate
    # batch size for which `lr` is given: `lr` is scaled linearly to `train.batch`; null: no scaling
    base_batch: int | None = None
    momentum: float = 0.9  # momentum of SGD, from 0 to below 1
    nesterov: bool = False  # Nesterov momentum of SGD
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW: decay of the averages of the gradient and its square
    weight_decay: float = 1e-4  # factor of weight decay
    # apply weight decay to all parameters, as in the paper; false: not to norms and biases, as is common today
    decay_norm_and_bias: bool = True
    clip_norm: float | None = None  # largest norm of the gradients of a step; null: no clipping

    def __post_init__(self):
        require(self.lr > 0, "optim.lr", self.lr, "give a learning rate above zero")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "it cannot be negative")
        require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "it lies between 0 and 1")
        require(not self.nesterov or self.momentum > 0, "optim.nesterov", self.nesterov, "give a momentum above zero")
        betas = list(self.betas)
        require(all(0 <= beta < 1 for beta in betas), "optim.betas", betas, "they lie between 0 and 1")
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

    # step: lr is multiplied by `gamma` at each milestone; cosine: lr falls to `final` times lr; constant: lr does not
    # change; plateau: lr is multiplied by `gamma` when the error plateaus (section 3.4)
    name: Literal["step", "cosine", "constant", "plateau"] = "step"
    # step: positions in `train.unit`, above 0, in increasing order
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1  # step, plateau: factor, between 0 and 1
    final: float = 0.0  # cosine: final lr as a share of lr
    patience: int = 5  # plateau: evaluations without improvement before lr is multiplied by `gamma`
    warmup: float = 0.0  # length of a linear warmup from zero, in `train.unit`
    # classifiers: lr is `warmup_lr` until the training error falls below this (section 4.2: 0.8); null: off
    warmup_until_error: float | None = None
    warmup_lr: float = 0.01  # learning rate of `warmup_until_error`

    def __post_init__(self):
        check_milestones(self.milestones, "schedule.milestones")
        require(0 < self.gamma < 1, "schedule.gamma", self.gamma, "it lies between 0 and 1")
        require(self.warmup >= 0, "schedule.warmup", self.warmup, "it cannot be negative")
        require(0 <= self.final <= 1, "schedule.final", self.final, "give a share of the learning rate, from 0 to 1")
        require(self.warmup_lr > 0, "schedule.warmup_lr", self.warmup_lr, "give a learning rate above zero")
        limit = self.warmup_until_error
        require(
            limit is None or 0 < limit < 1,
            "schedule.warmup_until_error",
            limit,
            "give an error between 0 and 1, or null",
        )
        require(self.patience > 0, "schedule.patience", self.patience, "give one evaluation or more")


def check_milestones(milestones: Sequence[float], key: str) -> None:
    ordered = all(a < b for a, b in zip([0, *milestones], milestones))
    require(ordered, key, list(milestones), "list positions above 0 in increasing order")


@dataclass
class DDPConfig:
    """Communication of several processes (torch's DistributedDataParallel)."""

    timeout: float = 1800  # longest time in seconds that a process waits for another one
    # size of a bucket of gradients in MB; one bucket is averaged while the next one is computed
    bucket_cap_mb: float = 25
    gradient_as_bucket_view: bool = True  # gradients share the memory of the buckets
    static_graph: bool = False  # assume that each step uses the same parameters in the same order
    # compression of gradients between processes; null: none, exact
    compress: Literal["fp16", "bf16", "powersgd"] | None = None
    powersgd_rank: int = 1  # powersgd: rank of the approximation, 1 or more
    powersgd_start: int = 1000  # powersgd: first step with compression, 3 or more

    def __post_init__(self):
        for key in ("timeout", "bucket_cap_mb", "powersgd_rank"):
            require(getattr(self, key) > 0, f"train.ddp.{key}", getattr(self, key), "it must be above zero")
        # DistributedDataParallel rearranges its buckets after the first step.
        require(self.powersgd_start > 2, "train.ddp.powersgd_start", self.powersgd_start, "give 3 or more")


@dataclass
class TrainConfig:
    """Config of a training run."""

    # unit of all lengths: train.length, evaluate_every, checkpoint_every, schedule.milestones, warmup
    unit: Literal["steps", "epochs"] = "epochs"
    length: float = 90  # length of the training, in `train.unit`
    # time limit of the run, including evaluations: all lengths of the config are scaled by one factor to fit it, and
    # some evaluations are left out if all would take more than half of it; null: no limit
    minutes: float | None = None
    batch: int = 256  # images per step, over all processes
    # gradient accumulation: number of micro-batches per step, a divisor of `train.batch`; batch norm, and the means of
    # mask and keypoint losses over positive regions, are those of micro-batches
    accumulate: int = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 if the device supports it, otherwise fp32
    channels_last: bool = True  # memory format of images and weights: channels last
    compile: bool = False  # compile training steps with torch.compile
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"  # mode of torch.compile
    graph: Literal["auto"] | bool = False  # CUDA graphs of whole steps; auto: on one GPU, except in fp16
    # decay of an exponential moving average of the weights, such as 0.9999; evaluations and best.pth use it, last.pth
    # also keeps the weights to resume from; null: off
    ema: float | None = None
    # images over which the backbone's batch norm statistics are averaged before each evaluation (appendix A); 0:
    # running averages
    exact_statistics: int = 0
    seed: int = 0  # seed of initial weights, order, crops and all other random numbers
    deterministic: bool = False  # use only deterministic algorithms, which are slower
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda or cuda:N
    evaluate_every: float = 1  # interval of evaluations, in `train.unit`
    checkpoint_every: float = 1  # interval of checkpoints, in `train.unit`
    log_every: int = 50  # interval of log lines in steps
    # tensorboard, csv, wandb, mlflow, or module:Class; null: tensorboard if it is installed
    loggers: list[str] | None = None
    log_images: int = 4  # validation images, with results, for the loggers at each evaluation; 0: none
    callbacks: list[str] = field(default_factory=list)  # module:Class, or the names of registered ones (docs/extend.md)
    # metric of the evaluations that selects best.pth, and on which `patience` and the plateau schedule depend, such as
    # AP50, mask_AP or loss; null: AP, mAP, error or loc_error
    monitor: str | None = None
    patience: int | None = None  # early stopping after this many evaluations without improvement; null: never
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
        for key in ("log_images", "exact_statistics"):
            require(getattr(self, key) >= 0, f"train.{key}", getattr(self, key), "give 0 (none) or a number of images")
        require(self.seed >= 0, "train.seed", self.seed, "give 0 or a whole number above")
        for key in ("loggers", "callbacks"):
            names = getattr(self, key) or []
            require(len(set(names)) == len(names), f"train.{key}", names, "name each once")
        require(self.minutes is None or self.minutes > 0, "train.minutes", self.minutes, "give a time above 0, or null")
        require(self.patience is None or self.patience > 0, "train.patience", self.patience, "give 1 or more, or null")
