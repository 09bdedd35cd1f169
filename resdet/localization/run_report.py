"""The report of a localization run, with the ground-truth class: errors by class and overlap, and the worst images."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from resdet.data.loader import Notes
from resdet.engine.distributed import World
from resdet.engine.latency import FILES, IMAGES, latency_table
from resdet.engine.sharing import sharing
from resdet.files.keyed_cache import digest_of
from resdet.localization.config import LocalizerExperiment
from resdet.localization.data.config import LocalizationConfig
from resdet.localization.data.crops import scaled_boxes
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.data.sources import open_localized
from resdet.localization.evaluate import Located, errors, locate_all, view_batches
from resdet.localization.loc_error import MIN_IOU, best_overlaps
from resdet.localization.locate import Locator
from resdet.localization.report import check_classes
from resdet.results.plot import Line
from resdet.results.sections import Chart, Gallery, Mark, Picture, Section, Table, facts, picture
from resdet.tasks import EvaluatedRun

WORST = 24  # pictures
ELSEWHERE_IOU = 0.1  # below: the box touches no instance


def report(run: EvaluatedRun) -> list[Section]:
    experiment = cast(LocalizerExperiment, run.experiment)
    data = cast(LocalizationConfig, experiment.data)
    source = open_localized(data, "val")
    locator = Locator([run.model], experiment.eval)
    check_classes(run.name, locator.classes, source.classes)
    options = sharing(data, World(0, 1, locator.device))
    state = digest_of([[source.name(index) for index in range(len(source))], source.labels.tolist()])
    columns = run.predictions(lambda: locate(locator, source, experiment, options), state)
    located = Located(**{name: np.array(values) for name, values in columns.items()}, losses={})
    metrics = errors(source, located, None)
    truth = [scaled_boxes(source, index, size[::-1]) for index, size in zip(located.indices.tolist(), located.sizes)]
    overlaps = best_overlaps(located.boxes, truth)[:, 0]
    table = facts("metrics", "Metrics", {**metrics, "images": len(overlaps)})
    pictures = worst_pictures(source, located, truth, overlaps)
    note = "With the ground-truth class. An image is correct if its box has an IoU of at least 0.5 with any instance."
    return [
        Section("summary", "Metrics", [table, error_table(overlaps)], note),
        Section("classes", "Classes", [class_table(source, located, overlaps)]),
        Section("overlaps", "Overlaps", [overlap_chart(overlaps)]),
        Section("images", "Images", [Gallery("worst", "Worst images", pictures, "By IoU.")]),
        Section("speed", "Speed", [speed_table(locator, source, located, options)]),
    ]


def locate(
    locator: Locator, source: LocalizedImages, experiment: LocalizerExperiment, options: dict[str, Any]
) -> dict[str, Any]:
    """The boxes of the ground-truth classes, in JSON types."""
    labels = source.labels[:, None]
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
        own = overlaps[labels == label]
        rows.append((name, len(own), float((own < MIN_IOU).mean()) if len(own) else None))
    return Table("classes", "Localization error by class", ("class", "images", "error"), rows)


def overlap_chart(overlaps: np.ndarray) -> Chart:
    """The share of images against the lowest IoU that counts as correct."""
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
    marks: Callable[[np.ndarray], list[Mark]] = lambda boxes: [
        Mark((left, top, right, bottom), name) for left, top, right, bottom in boxes.tolist()
    ]
    layers = {"truth": marks(truth), "box": marks(box[None])}
    return picture(source.image(index).decode(), source.name(index), f"{name}, IoU {overlap:.2f}", layers)


def speed_table(locator: Locator, source: LocalizedImages, located: Located, options: dict[str, Any]) -> Table:
    def predict(index: int) -> None:
        ((views, sizes, indices),) = view_batches(locator, source, [index], 1, 0, options["on_bad_image"], Notes(print))
        locator(views, sizes, labels[indices])

    labels = torch.from_numpy(source.labels[:, None]).to(locator.device)
    with torch.inference_mode():
        return latency_table(predict, located.indices[:IMAGES].tolist(), locator.device, FILES)
