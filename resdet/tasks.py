"""The registry of tasks: what the hub and the commands ask of classification, detection and localization.

A task is a folder with a config, a model, data, training and evaluation, and one subclass of `Task` that names them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from resdet.config.experiment import Experiment, experiments
from resdet.data.config import DataConfig
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.training import TrainingTask
from resdet.errors import ConfigError
from resdet.registry import Registry

EVALUATE_OPTIONS = {  # option of `resdet evaluate` -> what is said where a task lacks it
    "per_class": "--per-class is for classifiers and detectors, and {path} is a localizer: leave it out.",
    "save": "--save keeps a detector's detections, and {path} is none: --json writes its figures.",
    "classifiers": "--classifier is for localizers, which are told the classes of an image: {path} is none.",
}


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `resdet evaluate`."""

    per_class: bool = False  # print a table of the classes
    json: str | None = None  # file of the metrics
    submission: str | None = None  # file for a test server, in place of metrics
    save: str | None = None  # file of the detections
    classifiers: Mapping[str, nn.Module] = field(default_factory=dict)  # by path: they predict a localizer's classes


@dataclass(frozen=True)
class PredictOptions:
    """The options of `resdet predict`; None where the command line has none."""

    top: int | None = None  # classes of an image
    score: float | None = None  # detections below this are left out
    draw: Path | None = None  # folder of the drawn results
    overrides: Sequence[str] = ()  # keys of `eval`
    classifiers: Mapping[str, nn.Module] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One of the trainings of an experiment that takes several."""

    name: str  # of its folder
    experiment: Experiment
    open: Callable[[Experiment, World, Log, str | None], TrainingTask]
    init: str | None  # its initial weights, which an earlier step may write


class Task:
    """The base of tasks. Its methods take the experiment of the task's own class."""

    kind: ClassVar[str]  # what its models are called; those of one kind make an ensemble
    evaluate_options: ClassVar[frozenset[str]] = frozenset()  # of EVALUATE_OPTIONS

    def build(self, experiment: Any, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> nn.Module:
        """An untrained model for these classes."""
        raise NotImplementedError

    def open_training(self, experiment: Any, world: World, log: Log, init: str | None = None) -> TrainingTask:
        """What the trainer trains: the model with its data and evaluation."""
        raise NotImplementedError

    def steps(self, experiment: Any, folder: Path, init: str | None) -> list[Step]:
        """The trainings of an experiment that takes several, in their order; none: a single one."""
        return []

    def evaluate(
        self, models: Sequence[Any], weights: Sequence[str], experiment: Any, options: EvaluateOptions
    ) -> dict[str, Any]:
        """Evaluates a model, or several as an ensemble, on the data of the experiment; prints and returns metrics."""
        raise NotImplementedError

    def predict(
        self, models: Sequence[Any], weights: Sequence[str], images: Sequence[Path], options: PredictOptions
    ) -> Iterator[dict[str, Any]]:
        """Prints what a model, or several as an ensemble, find in each image; yields it as JSON takes it."""
        raise NotImplementedError

    def pictures(self, data: DataConfig) -> Sequence[Any]:
        """The training images, as `predict` takes them."""
        raise ConfigError(f"The images of {data.name} are not for a calibration: give a folder of images.")

    def smoke_data(self, experiment: Any, out: Path) -> list[str]:
        """Overrides that put generated data in place of the experiment's."""
        raise NotImplementedError

    def smoke_training(self, experiment: Any) -> list[str]:
        """Overrides that make a small model and a short training of the experiment."""
        raise NotImplementedError

    def smoke_evaluation(self, experiment: Any, overrides: Sequence[str] = ()) -> list[str]:
        """Overrides that make a quick evaluation; `overrides` are those that it has besides."""
        raise NotImplementedError

    def check_evaluate_options(self, given: Mapping[str, Any], path: str) -> None:
        """Refuses options that are for other tasks; `path` is the checkpoint."""
        for name, sentence in EVALUATE_OPTIONS.items():
            if given.get(name) and name not in self.evaluate_options:
                raise ConfigError(sentence.format(path=path))


def register(name: str, experiment: type[Experiment]) -> Callable[[type[Task]], type[Task]]:
    """Class decorator that registers a task under the name that configs give it, with the dataclass of its config."""

    def add(kind: type[Task]) -> type[Task]:
        experiments.register(name)(experiment)
        tasks.register(name)(kind())
        return kind

    return add


tasks: Registry[Task] = Registry(
    "task",
    "task",
    {
        "classification": "resdet.classification.task:task",
        "detection": "resdet.detection.task:task",
        "localization": "resdet.localization.task:rpn_task",
        "localization_rcnn": "resdet.localization.task:rcnn_task",
    },
)
