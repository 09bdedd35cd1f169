"""The report of a classification run: errors by class, confusion, calibration and the worst images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.classification.evaluate import Scored
from resdet.classification.metrics import TOP, has_top5
from resdet.classification.validation import Validation, match, open_validation
from resdet.data.loader import Skipped
from resdet.engine.distributed import World
from resdet.engine.latency import IMAGES, PIXELS, latency_table
from resdet.errors import DataError
from resdet.files.keyed_cache import digest_of
from resdet.results.calibration import calibrate, calibration_parts
from resdet.results.confusion import confusion_parts
from resdet.results.sections import Cell, Gallery, Picture, Section, Table, facts, picture
from resdet.tasks import EvaluatedRun

WORST = 24  # maximum number of pictures


@dataclass(frozen=True)
class Predictions:
    """The predictions of n images with a label."""

    indices: np.ndarray  # int64 [n]
    labels: np.ndarray  # int64 [n]
    best: np.ndarray  # int64 [n, k]: classes by descending score
    scores: np.ndarray  # float64 [n, k]
    truth: np.ndarray  # float64 [n]: score of the label


@dataclass(frozen=True)
class Evaluated:
    """A run with its predictions for the validation images."""

    run: EvaluatedRun
    images: Validation
    names: list[str]  # of all images
    predictions: Predictions

    @property
    def classes(self) -> list[str]:
        return list(self.run.model.classes)


def evaluate_run(run: EvaluatedRun) -> Evaluated:
    """Predicts the validation images, or reads the predictions from the cache."""
    images = open_validation(run.experiment, World(0, 1, run.model.device), Skipped(print))
    match(images, run.name, run.model.classes)
    names = [images.name(index) for index in range(len(images))]
    columns = run.predictions(
        lambda: predict(images.scored([run.model])), digest_of([names, images.classes, run.model.classes])
    )
    if not columns["indices"]:
        raise DataError(f"Cannot read any of the {len(images)} validation images of {run.name}: check data.root.")
    predictions = Predictions(*(np.array(columns[name]) for name in Predictions.__annotations__))
    return Evaluated(run, images, names, predictions)


def report(run: EvaluatedRun) -> list[Section]:
    evaluated = evaluate_run(run)
    images, predictions, classes = evaluated.images, evaluated.predictions, evaluated.classes
    return [
        Section("summary", "Metrics", [summary(predictions, classes)]),
        Section("classes", "Classes", [class_table(predictions, classes)]),
        Section(
            "calibration", "Calibration", calibration_parts(calibrate(predictions.scores[:, 0], hits(predictions, 1)))
        ),
        confusion_section(predictions, classes),
        Section("images", "Images", [worst_gallery(images, predictions, classes)]),
        Section("speed", "Speed", [speed_table(run, images, predictions)]),
    ]


def predict(scored: Iterable[Scored]) -> dict[str, list[Any]]:
    """Returns the columns of `Predictions` as JSON types. Of equal scores, the smaller class number ranks first."""
    columns: dict[str, list[Any]] = {name: [] for name in Predictions.__annotations__}
    for scores, labels, indices in scored:
        kept = (labels >= 0).cpu()
        values, order = (part.cpu() for part in scores.double().sort(dim=1, descending=True, stable=True))
        truth = scores.double().cpu().gather(1, labels.cpu().clamp(min=0)[:, None])[:, 0]
        parts = (indices.cpu(), labels.cpu(), order[:, :TOP], values[:, :TOP], truth)
        for column, part in zip(columns.values(), parts):
            column += part[kept].tolist()
    return columns


def hits(predictions: Predictions, top: int) -> np.ndarray:
    """Returns bool [n]: whether the label is among the best classes."""
    return (predictions.best[:, :top] == predictions.labels[:, None]).any(1)


def tops(classes: Sequence[str]) -> tuple[int, ...]:
    """Returns the values of k for which top-k errors are reported."""
    return (1, TOP) if has_top5(len(classes)) else (1,)


def summary(predictions: Predictions, classes: Sequence[str]) -> Table:
    loss = -np.log(predictions.truth.clip(min=1e-45)).mean()
    values: dict[str, Cell] = {
        "images": len(predictions.labels),
        **{f"top-{top} error": float(1 - hits(predictions, top).mean()) for top in tops(classes)},
        "loss": float(loss),
    }
    return facts("metrics", "All images", values)


def class_table(predictions: Predictions, classes: list[str]) -> Table:
    counts = np.bincount(predictions.labels, minlength=len(classes))
    right = [np.bincount(predictions.labels[hits(predictions, top)], minlength=len(classes)) for top in tops(classes)]
    share = lambda good, count: 1 - good / count if count else None
    rows = [
        (name, count, *(share(good, count) for good in goods))
        for name, count, *goods in zip(classes, counts.tolist(), *(each.tolist() for each in right))
    ]
    errors = (f"top-{top} error" for top in tops(classes))
    return Table("classes", "Errors by class", ("class", "images", *errors), rows)


def confusion_section(predictions: Predictions, classes: list[str]) -> Section:
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (predictions.labels, predictions.best[:, 0]), 1)
    return Section("confusion", "Confusion", confusion_parts(classes, classes, counts.tolist()), "Rows: labels.")


def worst_gallery(images: Validation, predictions: Predictions, classes: list[str]) -> Gallery:
    """Shows the misclassified images with the lowest score of their label."""
    wrong = np.flatnonzero(~hits(predictions, 1))
    worst = wrong[np.argsort(predictions.truth[wrong], kind="stable")][:WORST]
    pictures = [worst_picture(images, predictions, classes, int(row)) for row in worst]
    note = "By the score of their label: mistakes of the model, or wrong labels."
    return Gallery("worst", "Worst images", pictures, note)


def worst_picture(images: Validation, predictions: Predictions, classes: list[str], row: int) -> Picture:
    index = int(predictions.indices[row])
    best, label = classes[predictions.best[row, 0]], classes[predictions.labels[row]]
    caption = f"{best} {predictions.scores[row, 0]:.2f}, labeled {label} {predictions.truth[row]:.2f}"
    return picture(images.pixels(index), images.name(index), caption)


def speed_table(run: EvaluatedRun, images: Validation, predictions: Predictions) -> Table:
    pixels = [images.pixels(int(index)) for index in predictions.indices[:IMAGES]]
    return latency_table(lambda image: run.model.predict([image]), pixels, run.model.device, PIXELS)
