"""Sections shared by the experiments of all tasks, and the registry of experiment classes; does not import torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from resdet.backbones.config import BackboneConfig, ResNetConfig
from resdet.config.settings import holder
from resdet.data.config import DataConfig
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.errors import ConfigError, number_of, require
from resdet.registry import Registry

AUTO = "auto"  # value of keys that are chosen from the data at the start of training


@dataclass
class ModelConfig:
    """Keys common to all models."""

    backbone: BackboneConfig = field(default_factory=ResNetConfig)
    num_classes: int | None = None  # number of classes; null: the number in the data
    freeze_stages: int = 0  # number of stages with fixed weights and statistics, counted from the stem; 0: none

    def __post_init__(self):
        stages, count = self.freeze_stages, self.num_classes
        require(stages >= 0, "model.freeze_stages", stages, "give 0 (none) or a number of stages")
        remedy = "give 1 or more, or null for the number of classes of the data"
        require(count is None or count > 0, "model.num_classes", count, remedy)

    def for_checkpoint(self) -> "ModelConfig":
        """Returns the config for building a checkpoint's model, without pretrained weights to download."""
        return replace(self, backbone=self.backbone.for_checkpoint())


@dataclass
class EvalConfig:
    """Keys common to all evaluations."""

    batch: int = 1  # images per batch of each process

    def __post_init__(self):
        require(self.batch > 0, "eval.batch", self.batch, "give one image or more")


@dataclass
class Experiment:
    """Keys of all experiments; each task defines its own `model`, `data` and `eval`."""

    task: str = ""  # kind of training; selects the keys of `model`, `data` and `eval`
    name: str = "experiment"  # name of the run and of its folder in runs/; default: name of the config file
    imports: list[str] = field(default_factory=list)  # modules that register your own parts (docs/extend.md)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    # Keys with the value `auto`, which a training chooses from the data; until then they have their defaults.
    auto: list[str] = field(default_factory=list)

    # Keys that may be `auto`; if their default has a bound, `min` or `max` and the key of the bound.
    auto_keys: ClassVar[Mapping[str, tuple[Callable[[list[int]], int], str] | None]] = {}
    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (DataConfig,)  # data formats that the task supports
    measures_error: ClassVar[bool] = False  # whether training steps report a top-1 error

    def check(self) -> None:
        """Refuses sections that contradict each other."""
        for key in self.auto:
            require(key in self.auto_keys, "auto", key, f"list keys of {', '.join(self.auto_keys) or 'other tasks'}")
        if not isinstance(self.data, self.data_kinds):
            remedy = f"which is not a data set for the task {self.task}; change data.name or task"
            raise ConfigError(f"data.name is {self.data.name}, {remedy}.", "data.name")
        seed = getattr(self.data, "seed", 0)  # of generated images, or of a validation split
        require(seed >= 0, "data.seed", seed, "give 0 or a whole number above")
        if self.schedule.warmup_until_error is not None and not self.measures_error:
            raise ConfigError(
                "schedule.warmup_until_error is only supported for classification: use schedule.warmup.",
                "schedule.warmup_until_error",
            )


experiments: Registry[type[Experiment]] = Registry(
    "task",
    "task",
    {
        "classification": "resdet.classification.config:ClassificationExperiment",
        "detection": "resdet.detection.config:DetectionExperiment",
        "localization": "resdet.localization.config:LocalizationExperiment",
        "localization_rcnn": "resdet.localization.config:LocalizationRCNNExperiment",
    },
)


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Converts the experiment to plain dicts and lists; keys that are not chosen yet have the value `auto`."""
    settings = plain(asdict(experiment))
    for key in settings.pop("auto"):
        section, last = holder(settings, key)
        section[last] = AUTO
    return settings


def plain(value: Any) -> Any:
    """Converts tuples to lists, as in YAML and checkpoints."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def check_count(num_classes: int | None, classes: Sequence[str]) -> None:
    if num_classes is not None and num_classes != len(classes):
        number = number_of(len(classes), "class", "classes")
        raise ConfigError(f"model.num_classes is {num_classes} and the data has {number}: give {len(classes)} or null.")
