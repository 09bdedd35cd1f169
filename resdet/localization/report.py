"""The report of a localization run, with the ground-truth class: errors by class and overlap, and the worst images."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from resdet.data.class_names import compare_classes
from resdet.data.loader import Notes
from resdet.engine.distributed import World
from resdet.engine.latency import FILES, IMAGES, latency_table
from resdet.files.keyed_cache import digest_of
from resdet.localization.config import LocalizerExperiment
from resdet.localization.data.config import LocalizationConfig
from resdet.localization.data.crops import scaled_boxes
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.evaluate import Located, errors, locate_all, view_batches
from resdet.localization.loc_error import MIN_IOU, best_overlaps
from resdet.localization.locate import Locator
from resdet.results.plot import Line
from resdet.results.sections import TRUTH, Chart, Gallery, Mark, Picture, Section, Table, facts, picture
from resdet.tasks import EvaluatedRun

WORST = 24  # maximum number of pictures
BOX = "box"  # layer of a picture
ELSEWHERE_IOU = 0.1  # below this IoU, a box misses all instances


@dataclass(frozen=True)
class Evaluated:
    """A run with its boxes of the ground-truth classes in n validation images."""

    run: EvaluatedRun
    locator: Locator
    source: LocalizedImages
    names: list[str]  # of all images
    located: Located
    truth: list[np.ndarray]  # n × [k, 4]: boxes in pixels of the images
    overlaps: np.ndarray  # float64 [n]: largest IoU with a box of `truth`

    @property
    def labels(self) -> np.ndarray:
        """Labels, int64 [n]."""
        return self.source.labels[self.located.indices]


def evaluate_run(run: EvaluatedRun) -> Evaluated:
    """Locates the objects of the validation images, or reads the boxes from the cache."""
    experiment = cast(LocalizerExperiment, run.experiment)
    source = cast(LocalizationConfig, experiment.data).open("val")
    locator = Locator([run.model], experiment.eval)
    compare_classes(run.name, locator.classes, source.classes)
    names = [source.name(index) for index in range(len(source))]
    state = digest_of([names, source.labels.tolist()])
    columns = run.predictions(lambda: locate(locator, source, experiment), state)
    located = Located(**{name: np.array(values) for name, values in columns.items()}, losses={})
    truth = [scaled_boxes(source, index, size[::-1]) for index, size in zip(located.indices.tolist(), located.sizes)]
    return Evaluated(run, locator, source, names, located, truth, best_overlaps(located.boxes, truth)[:, 0])


def report(run: EvaluatedRun) -> list[Section]:
    evaluated = evaluate_run(run)
    source, located, overlaps = evaluated.source, evaluated.located, evaluated.overlaps
    table = facts("metrics", "All images", {**errors(source, located, None), "images": len(overlaps)})
    pictures = worst_pictures(source, located, evaluated.truth, overlaps)
    note = "With the ground-truth class. An image is correct if its box has an IoU of at least 0.5 with any instance."
    return [
        Section("summary", "Metrics", [table, error_table(overlaps)], note),
        Section("classes", "Classes", [class_table(source, located, overlaps)]),
        Section("overlaps", "Overlaps", [overlap_chart(overlaps)]),
        Section("images", "Images", [Gallery("worst", "Worst images", pictures, "By IoU.")]),
        Section("speed", "Speed", [speed_table(evaluated)]),
    ]


def locate(locator: Locator, source: LocalizedImages, experiment: LocalizerExperiment) -> dict[str, Any]:
    """Returns the boxes of the ground-truth classes as JSON types."""
    labels, options = source.labels[:, None], World(0, 1, locator.device).options(experiment.data)
    located = locate_all(locator, source, labels, experiment.eval, Notes(print), **options)
    return {name: value.tolist() for name, value in located._asdict().items() if name != "losses"}


def error_table(overlaps: np.ndarray) -> Table:
    kinds = {
        "correct": overlaps >= MIN_IOU,
        "poor box, IoU from 0.1 to 0.5": (overlaps < MIN_IOU) & (overlaps >= ELSEWHERE_IOU),
        "elsewhere, IoU below 0.1": overlaps < ELSEWHERE_IOU,
    }
    rows = [(name, int(chosen.sum()), float(chosen.mean())) for name, chosen in kinds.items()]
    return Table("errors", "Errors by type", ("type", "images", "share"), rows)


def class_table(source: LocalizedImages, located: Located, overlaps: np.ndarray) -> Table:
    labels = source.labels[located.indices]
    rows = []
    for label, name in enumerate(source.classes):
        of_class = overlaps[labels == label]
        rows.append((name, len(of_class), float((of_class < MIN_IOU).mean()) if len(of_class) else None))
    return Table("classes", "Localization error by class", ("class", "images", "error"), rows)


def overlap_chart(overlaps: np.ndarray) -> Chart:
    """Plots the share of images against the minimum IoU of a correct box."""
    limits = np.linspace(0, 1, 101)
    share = (overlaps[:, None] >= limits).mean(0)
    lines = [Line("correct", limits.tolist(), share.tolist(), 0)]
    return Chart("overlaps", "Share of images against the IoU", lines, "lowest IoU", "share", top=1)


def worst_pictures(
    source: LocalizedImages, located: Located, truth: list[np.ndarray], overlaps: np.ndarray
) -> list[Picture]:
    wrong = np.flatnonzero(overlaps < MIN_IOU)
    rows = wrong[np.argsort(overlaps[wrong], kind="stable")][:WORST].tolist()
    return [drawn(source, int(located.indices[row]), located.boxes[row, 0], truth[row], overlaps[row]) for row in rows]


def drawn(source: LocalizedImages, index: int, box: np.ndarray, truth: np.ndarray, overlap: float) -> Picture:
    name = source.classes[source.labels[index]]
    layers = {TRUTH: boxed(truth, name), BOX: boxed(box[None], name)}
    return picture(source.image(index).decode(), source.name(index), f"{name}, IoU {overlap:.2f}", layers)


def boxed(boxes: np.ndarray, name: str) -> list[Mark]:
    """Returns the marks of boxes [k, 4] of a class."""
    return [Mark.of(box, name) for box in boxes]


def speed_table(evaluated: Evaluated) -> Table:
    locator, source = evaluated.locator, evaluated.source
    on_bad_image = cast(LocalizationConfig, evaluated.run.experiment.data).on_bad_image

    def predict(index: int) -> None:
        ((views, sizes, indices),) = view_batches(locator, source, [index], 1, 0, on_bad_image, Notes(print))
        locator(views, sizes, labels[indices])

    labels = torch.from_numpy(source.labels[:, None]).to(locator.device)
    with torch.inference_mode():
        return latency_table(predict, evaluated.located.indices[:IMAGES].tolist(), locator.device, FILES)
