"""The experiment of each task, composed of the packages' config dataclasses; free of torch, YAML and pydantic."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from resdet.data.config import (
    CocoConfig,
    DataConfig,
    IlsvrcLocConfig,
    ImageNetConfig,
    LocalizationConfig,
    ScenesConfig,
)
from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.errors import ConfigError, require
from resdet.evaluation.config import BatchConfig, DetectionEvalConfig, EvalConfig, LocalizationEvalConfig
from resdet.models.config import ClassifierConfig, DetectorConfig, ModelConfig
from resdet.models.localizer_config import LocalizerConfig, LocalizerRCNNConfig
from resdet.tasks.config import AlternatingConfig


@dataclass
class Experiment:
    """The sections of every task; each task has a model, data and evaluation of its own."""

    task: str = ""
    name: str = "experiment"  # by default that of the config file
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: BatchConfig = field(default_factory=BatchConfig)


@dataclass
class ClassificationExperiment(Experiment):
    """A classifier on a data set, trained and tested."""

    task: Literal["classification"] = "classification"
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    data: DataConfig = field(default_factory=ImageNetConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


@dataclass
class DetectionExperiment(Experiment):
    """A detector on a data set, trained and tested."""

    task: Literal["detection"] = "detection"
    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=lambda: CocoConfig("coco"))
    eval: DetectionEvalConfig = field(default_factory=DetectionEvalConfig)
    alternating: AlternatingConfig | None = None  # null: RPN and regions together; {}: in four steps


@dataclass
class LocalizationExperiment(Experiment):
    """A per-class RPN that says where the class of an image is (appendix C)."""

    task: Literal["localization"] = "localization"
    model: LocalizerConfig = field(default_factory=LocalizerConfig)
    data: DataConfig = field(default_factory=lambda: IlsvrcLocConfig("ilsvrc_loc"))
    eval: LocalizationEvalConfig = field(default_factory=LocalizationEvalConfig)


@dataclass
class LocalizationRCNNExperiment(Experiment):
    """The R-CNN on its proposals (appendix C)."""

    task: Literal["localization_rcnn"] = "localization_rcnn"
    model: LocalizerRCNNConfig = field(default_factory=LocalizerRCNNConfig)
    data: DataConfig = field(default_factory=lambda: IlsvrcLocConfig("ilsvrc_loc"))
    eval: LocalizationEvalConfig = field(default_factory=LocalizationEvalConfig)


TASKS: dict[str, type[Experiment]] = {
    "classification": ClassificationExperiment,
    "detection": DetectionExperiment,
    "localization": LocalizationExperiment,
    "localization_rcnn": LocalizationRCNNExperiment,
}
# The kind of data that a task needs where not any will do.
DATA = {"detection": ScenesConfig, "localization": LocalizationConfig, "localization_rcnn": LocalizationConfig}


def check(experiment: Experiment) -> Experiment:
    """Refuses sections that contradict each other."""
    check_data(experiment)
    if experiment.task == "localization_rcnn":
        size, context = experiment.data.size, experiment.model.context
        remedy = f"on both sides of a box in data.size={size} pixels; give less than half of them"
        require(2 * context < size, "model.context", context, remedy)
    return experiment


def check_data(experiment: Experiment) -> None:
    """Images with objects are for detectors, those of one class with its boxes for localizers, others for neither."""
    kind = next((kind for kind in (ScenesConfig, LocalizationConfig) if isinstance(experiment.data, kind)), None)
    if kind is not DATA.get(experiment.task):
        remedy = f"which is no data set for the task {experiment.task}; change data.name or task"
        raise ConfigError(f"data.name is {experiment.data.name}, {remedy}.", "data.name")


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The whole resolved experiment as plain containers."""
    return plain(asdict(experiment))


def plain(value: Any) -> Any:
    """Tuples as lists, which is how YAML and checkpoints hold them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
