"""The sections that the experiments of all tasks share, and the registry of their dataclasses; free of torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from resdet.backbones.config import BackboneConfig, ResNetConfig
from resdet.data.config import DataConfig
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.errors import ConfigError, require
from resdet.registry import Registry


@dataclass
class ModelConfig:
    """The keys that every model shares."""

    backbone: BackboneConfig = field(default_factory=ResNetConfig)
    num_classes: int | None = None  # null: as many as the data has
    freeze_stages: int = 0  # number of stages, the stem first, whose weights and statistics are frozen

    def __post_init__(self):
        stages, count = self.freeze_stages, self.num_classes
        require(stages >= 0, "model.freeze_stages", stages, "give 0 (none) or a number of stages")
        remedy = "give 1 or more, or null for as many as the data has"
        require(count is None or count > 0, "model.num_classes", count, remedy)

    def for_checkpoint(self) -> "ModelConfig":
        """The config by which a checkpoint's model is built: no weights are downloaded."""
        return replace(self, backbone=self.backbone.for_checkpoint())


@dataclass
class EvalConfig:
    """The key that every evaluation shares."""

    batch: int = 1  # images at once, on each process

    def __post_init__(self):
        require(self.batch > 0, "eval.batch", self.batch, "give one image or more")


@dataclass
class Experiment:
    """The sections of every task; each task has a model, data and evaluation of its own."""

    task: str = ""
    name: str = "experiment"  # by default that of the config file
    imports: list[str] = field(default_factory=list)  # modules that register backbones, heads, formats … of your own
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (DataConfig,)  # the formats that this task takes
    measures_error: ClassVar[bool] = False  # whether training steps measure an error

    def check(self) -> None:
        """Refuses sections that contradict each other."""
        if not isinstance(self.data, self.data_kinds):
            remedy = f"which is no data set for the task {self.task}; change data.name or task"
            raise ConfigError(f"data.name is {self.data.name}, {remedy}.", "data.name")
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
    """The whole resolved experiment as plain containers."""
    return plain(asdict(experiment))


def plain(value: Any) -> Any:
    """Tuples as lists, which is how YAML and checkpoints hold them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def check_count(wanted: int | None, classes: Sequence[str]) -> None:
    if wanted is not None and wanted != len(classes):
        raise ConfigError(
            f"model.num_classes is {wanted} and the data has {len(classes)} classes: set one of them right, or null."
        )
