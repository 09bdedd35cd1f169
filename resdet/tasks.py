"""The registry of tasks, the interface of classification, detection and localization for the hub and the commands.

A task is a package with config, model, data, training and evaluation, and a subclass of `Task`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from resdet import config
from resdet.config.experiment import Experiment, experiments
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.training import TrainingTask
from resdet.errors import ConfigError, spelled
from resdet.files.keyed_cache import cached_json
from resdet.model import Model
from resdet.registry import Registry
from resdet.results.sections import Section
from resdet.results.stream import Source

Outputs = Mapping[str, str | None]  # files to write, by option
EVALUATE_OPTIONS = {  # option of `resdet evaluate` -> error of tasks that do not support it
    "per_class": "--per-class is for classifiers and detectors, and {path} is a localizer: omit it.",
    "save": "--save is for detectors, and {path} is none: use --json for its metrics.",
    "classifiers": "--classifier is for localizers, and {path} is none: omit it.",
    "split": "--split is for detectors, and {path} is none: set data.val to evaluate it on other images.",
}


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `resdet evaluate`."""

    per_class: bool = False  # print metrics per class
    json: str | None = None  # output file of the metrics
    submission: str | None = None  # output file for a test server, instead of metrics
    save: str | None = None  # output file of the detections
    split: str | None = None  # split to evaluate on; None: val
    classifiers: Mapping[str, Model] = field(default_factory=dict)  # by path; they predict the classes for a localizer


@dataclass(frozen=True)
class PredictOptions:
    """The options of `resdet predict`; None if not given."""

    top: int | None = None  # number of classes per image
    score: float | None = None  # minimum score of detections
    classes: Sequence[str] = ()  # classes of the returned detections; empty: all
    draw: Path | None = None  # output folder of images with drawn results
    overrides: Sequence[str] = ()  # overrides of the section `eval`
    classifiers: Mapping[str, Model] = field(default_factory=dict)
    batch: int = 1  # images of one shape that are predicted together
    track: bool = False  # give objects track ids


@dataclass(frozen=True)
class EvaluatedRun:
    """A run whose best checkpoint `resdet report` evaluates."""

    name: str
    model: Any  # of the task, on the device
    experiment: Any
    cache: Path  # folder of cached predictions
    key: str  # identifies the checkpoint and the settings; predictions with another key are out of date
    outputs: Outputs = field(default_factory=dict)

    def predictions(self, compute: Callable[[], Any], state: str = "") -> Any:
        """Returns the result of `compute` as JSON types, from the cache if possible.

        `state` identifies the data, for example with `resdet.files.keyed_cache.digest_of`; predictions for another
        state are out of date.
        """
        return cached_json(self.cache / "predictions.json", self.key + state, compute)


@dataclass(frozen=True)
class CheckOptions:
    """The options of `resdet data check`."""

    html: str | None = None  # output file of the page
    fix: str | None = None  # output folder of a cleaned copy
    near_duplicates: bool = True  # search for them, which decodes all images at a low resolution
    decode: bool = False  # decode all images


@dataclass(frozen=True)
class Step:
    """A training run: the only one of an experiment, or one of several."""

    name: str  # name of its folder
    experiment: Experiment
    open: Callable[[Experiment, World, Log, str | None], TrainingTask]
    init: str | None  # file with initial weights, possibly written by an earlier step


class Task:
    """The base class of tasks. Experiments, data configs and models are of the task's classes."""

    predict_options: ClassVar[frozenset[str]] = frozenset()  # the supported ones of `top`, `score` and `draw`
    evaluate_options: ClassVar[frozenset[str]] = frozenset()  # the supported ones of EVALUATE_OPTIONS
    image_keys: ClassVar[frozenset[str]] = frozenset()  # data keys that a trained model fixes: the size of its images

    def build(self, experiment: Any, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> Model:
        """Builds an untrained model for these classes."""
        raise NotImplementedError

    def open_training(self, experiment: Any, world: World, log: Log, init: str | None = None) -> TrainingTask:
        """Opens the training task: a model with its data and evaluation."""
        raise NotImplementedError

    def steps(self, experiment: Any, folder: Path, init: str | None) -> list[Step]:
        """Returns the training runs of an experiment with several, in order; empty for a single one."""
        return []

    def evaluate(
        self, models: Sequence[Any], weights: Sequence[str], experiment: Any, options: EvaluateOptions
    ) -> dict[str, Any]:
        """Evaluates a model, or several as an ensemble, on the data of the experiment; prints and returns metrics."""
        raise NotImplementedError

    def predict(
        self, models: Sequence[Any], weights: Sequence[str], sources: Sequence[Source], options: PredictOptions
    ) -> Iterator[dict[str, Any]]:
        """Predicts with a model, or several as an ensemble; prints and yields (for JSON) the result of each image."""
        raise NotImplementedError

    def predictor(self, models: Sequence[Any], weights: Sequence[str], options: PredictOptions) -> Any:
        """Returns the object that predicts for `resdet serve` and `resdet predict --parquet`, with the methods
        `prepare_image` and `predict_prepared` of a Model."""
        return models[0]

    def threshold(self, options: PredictOptions) -> float | None:
        """Returns the minimum score of detections; None: the model's default."""
        return options.score

    def report(self, run: EvaluatedRun, precision: float | None) -> list[Section]:
        """Evaluates a run on its validation data. `precision`: the minimum at the score threshold, if given."""
        raise ConfigError(f"{run.name}: the task {run.experiment.task} has no report: see resdet.tasks.Task.report.")

    def compare(self, runs: Sequence[EvaluatedRun], precision: float | None) -> list[Section]:
        """Compares runs with the first one on the same validation data."""
        task = runs[0].experiment.task
        raise ConfigError(f"{runs[0].name}: the task {task} has no comparison: see resdet.tasks.Task.compare.")

    def calibration_images(self, data: Any) -> Sequence[Any]:
        """Returns the training images, as inputs of `predict`, for int8 calibration."""
        raise ConfigError(f"The data set {data.name} does not support calibration: give a folder of images.")

    def check_data(self, experiment: Any, options: CheckOptions) -> dict[str, Any]:
        """Finds errors in the data of the experiment; prints a summary and returns the findings for JSON."""
        raise ConfigError(f"data.name is {experiment.data.name}: resdet data check is for the data of detectors.")

    def smoke_data(self, experiment: Any, out: Path) -> list[str]:
        """Writes generated data to `out`; returns the overrides that make the experiment use it."""
        raise NotImplementedError

    def smoke_training(self, experiment: Any) -> list[str]:
        """Returns overrides for a small model and a short training run."""
        raise NotImplementedError

    def smoke_evaluation(self, experiment: Any, overrides: Sequence[str] = ()) -> list[str]:
        """Returns overrides for a short evaluation; `overrides`: those already given."""
        raise NotImplementedError

    def check_evaluate_options(self, given: Mapping[str, Any], path: str) -> None:
        """Refuses options that the task does not support; `path`: the checkpoint, for errors."""
        for name, sentence in EVALUATE_OPTIONS.items():
            if given.get(name) and name not in self.evaluate_options:
                raise ConfigError(sentence.format(path=path))


def refuse_precision(run: EvaluatedRun, precision: float | None, kind: str) -> None:
    """Refuses --precision for tasks without a score threshold; `kind`: the kind of model, for the error."""
    if precision is not None:
        raise ConfigError(f"{run.name} is a run of {kind}, which has no score threshold: omit --precision.")


def register(name: str, experiment: type[Experiment]) -> Callable[[type[Task]], type[Task]]:
    """Returns a class decorator that registers a task and its experiment class under the task's name in configs."""

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


def refuse_model_settings(before: Experiment, after: Experiment, overrides: Sequence[str], path: str) -> None:
    """Refuses overrides of settings that a checkpoint fixes: the model, and the size of its images."""
    named = {word.partition("=")[0] for word in overrides} & tasks[before.task].image_keys
    for key, (old, new) in config.differences(config.to_dict(before), config.to_dict(after)).items():
        if key.startswith("model.") or key in named:
            raise ConfigError(
                f"{key} is {spelled(old)} in {path}, and {spelled(new)} would have no effect on its evaluation: leave "
                "it out; keys of eval change a test (docs/config.md)."
            )
