"""Compares the errors of two runs, each of which is right or wrong about each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resdet.results.differences import ALL, COLUMNS, explanation, resample, row
from resdet.results.sections import Gallery, Section, Table

LOWER = -1  # errors are better if they are lower
NO_IMAGES = "no images"


@dataclass(frozen=True)
class Errors:
    """By kind of error, bool [n]: whether a run is wrong about each image."""

    run: str
    wrong: Mapping[str, np.ndarray]


def error_section(
    first: Errors, other: Errors, labels: np.ndarray, classes: Sequence[str], number: int, galleries: Sequence[Gallery]
) -> Section:
    """The section of run `number`; `labels` [n] are of the images."""
    tables = difference_table(first, other, labels, classes, number), agreement_table(first, other, number)
    note = explanation(first.run, other.run, len(labels))
    return Section(f"comparison_{number}", f"{other.run} against {first.run}", [*tables, *galleries], note)


def difference_table(first: Errors, other: Errors, labels: np.ndarray, classes: Sequence[str], number: int) -> Table:
    """Errors of all classes, and of each class the first kind."""
    copies = resample(len(labels))
    rows = []
    for kind in first.wrong:
        a, b = (means(each.wrong[kind], copies) for each in (first, other))
        rows.append(row(ALL, kind, a, b, LOWER, NO_IMAGES))
    kind = next(iter(first.wrong))
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        a, b = (means(each.wrong[kind][members], copies[:, members]) for each in (first, other))
        rows.append(row(name, kind, a, b, LOWER, NO_IMAGES))
    return Table(f"differences_{number}", "Error by class", COLUMNS, rows)


def means(wrong: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """[R]: the error of each resample [R, n]; NaN for one without images."""
    count = copies.sum(1)
    return np.where(count > 0, copies @ wrong.astype(np.float64) / np.maximum(count, 1), np.nan)


def agreement_table(first: Errors, other: Errors, number: int) -> Table:
    """The number of images that both runs, one or none are right about."""
    kind = next(iter(first.wrong))
    a, b = ~first.wrong[kind], ~other.wrong[kind]
    counts = {"both": a & b, f"only {first.run}": a & ~b, f"only {other.run}": b & ~a, "none": ~a & ~b}
    rows = [(name, int(chosen.sum()), float(chosen.mean())) for name, chosen in counts.items()]
    return Table(f"agreement_{number}", "Right about an image", ("run", "images", "share"), rows)
