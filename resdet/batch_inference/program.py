"""The models and settings of a prediction job, by name, so that other processes and machines can load them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from resdet import hub
from resdet.batch_inference.images import Readable
from resdet.classification.model import PREDICT_BATCH
from resdet.detection.inference.predictor import batch_for
from resdet.errors import ConfigError, DataError, WeightsError
from resdet.fast import Compile
from resdet.files import download
from resdet.images.shape_groups import attempted
from resdet.model import Prepared
from resdet.results.parquet import VERSION, Row, common, row_of_error, row_of_result
from resdet.results.result import Result
from resdet.system import keep_freed_memory
from resdet.tasks import PredictOptions, tasks
from resdet.weights import zoo


@dataclass(frozen=True)
class Program:
    """Models, given by file or published name, and the options of `resdet predict`."""

    weights: Sequence[str]
    classifiers: Sequence[str] = ()
    top: int | None = None
    score: float | None = None
    overrides: Sequence[str] = ()  # settings of the section `eval`
    mode: hub.Mode = "fast"
    compile: Compile = "auto"
    classes: Sequence[str] = ()  # classes of the detections to keep; empty: all

    def models(self, device: torch.device) -> tuple[list[Any], PredictOptions]:
        """Loads the model, or the models of an ensemble, and returns them with the options for prediction."""
        keep_freed_memory()
        models = [hub.load(path, self.mode, device, self.compile) for path in self.weights]
        check_ensemble(models, self.weights)
        check_classifiers(models[0], self.classifiers)
        nets = {path: hub.load(path, self.mode, device, self.compile) for path in self.classifiers}
        batch = batch_of(models[0], device)
        options = PredictOptions(self.top, self.score, self.classes, None, self.overrides, nets, batch)
        return models, options

    def load(self, device: torch.device) -> "Loaded":
        models, options = self.models(device)
        task = tasks[models[0].task]
        predictor = task.predictor(models, self.weights, options)
        return Loaded(predictor, task.threshold(options), self.top, options.batch)

    def settings(self) -> dict[str, Any]:
        """Returns everything that results depend on, in JSON types: digests of the files instead of their names."""
        return {
            "columns": VERSION,
            "weights": [digest(path) for path in self.weights],
            "classifiers": [digest(path) for path in self.classifiers],
            "top": self.top,
            "score": self.score,
            "overrides": sorted(self.overrides),
            "classes": sorted(self.classes),
            "mode": self.mode,
        }


class Loaded:
    """Models in memory."""

    def __init__(self, predictor: Any, score: float | None, top: int | None, batch: int):
        self.predictor, self.score, self.top, self.batch = predictor, score, top, batch

    def rows(self, images: Sequence[Readable]) -> Iterator[Row]:
        """Yields one row per image, in order; the row of an unreadable image contains the error."""
        predict = partial(self.predictor.predict_prepared, score=self.score, top=self.top)
        for image, prepared, result in attempted(self.prepare, predict, images, self.batch):
            yield row_of(str(image), prepared.size, result)

    def prepare(self, image: Readable) -> Prepared:
        prepared: Prepared = self.predictor.prepare_image(image.read())
        return prepared


def row_of(image: str, size: tuple[int, int], result: Any) -> Row:
    """`size`: height and width."""
    if isinstance(result, DataError):
        return row_of_error(image, result)
    return row_of_result(image, result) if isinstance(result, Result) else common(image, size, result)


def batch_of(model: Any, device: torch.device) -> int:
    """The batch size for prediction."""
    return PREDICT_BATCH if model.kind == "classifier" else batch_for(device)


def check_ensemble(models: Sequence[Any], weights: Sequence[str]) -> None:
    if len({model.kind for model in models}) > 1:
        raise ConfigError(
            f"{' '.join(weights)} cannot form an ensemble: give one classifier, or only detectors, or only localizers."
        )


def check_classifiers(model: Any, classifiers: Sequence[str]) -> None:
    if classifiers and "classifiers" not in tasks[model.task].evaluate_options:
        raise ConfigError("--classifier is only for localizers: leave it out.")


def digest(source: str) -> str:
    """SHA-256 of a weights file or a published model; of both files for an OpenVINO model."""
    path = zoo.locate(source)
    parts = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    try:
        return "".join(download.digest(part, "sha256") for part in parts)
    except OSError as error:
        raise WeightsError(f"{source} cannot be read ({error.strerror}): give a file of weights.") from error
