"""Compares the errors of two runs whose predictions are right or wrong for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resdet.results.differences import ALL, COLUMNS, explanation, resample, row
from resdet.results.sections import Gallery, Section, Table

LOWER = -1  # lower errors are better
NO_IMAGES = "no images"


@dataclass(frozen=True)
class Errors:
    """Whether a run is wrong about each image, bool [n], by kind of error."""

    run: str
    wrong: Mapping[str, np.ndarray]


def error_section(
    first: Errors, other: Errors, labels: np.ndarray, classes: Sequence[str], number: int, galleries: Sequence[Gallery]
) -> Section:
    """Returns the section of run `number`; `labels` [n]: classes of the images."""
    tables = difference_table(first, other, labels, classes, number), agreement_table(first, other, number)
    note = explanation(first.run, other.run, len(labels))
    return Section(f"comparison_{number}", f"{other.run} against {first.run}", [*tables, *galleries], note)


def difference_table(first: Errors, other: Errors, labels: np.ndarray, classes: Sequence[str], number: int) -> Table:
    """Returns a table with all errors over all classes, and the first kind of error per class."""
    copies = resample(len(labels))
    rows = []
    for kind in first.wrong:
        a, b = (means(each.wrong[kind], copies) for each in (first, other))
        rows.append(row(ALL, kind, a, b, LOWER, NO_IMAGES, len(labels)))
    kind = next(iter(first.wrong))
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        a, b = (means(each.wrong[kind][members], copies[:, members]) for each in (first, other))
        rows.append(row(name, kind, a, b, LOWER, NO_IMAGES, len(members)))
    return Table(f"differences_{number}", "Error by class", COLUMNS, rows)


def means(wrong: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Computes the error [R] of each resample [R, n]; NaN for a resample without images."""
    count = copies.sum(1)
    return np.where(count > 0, copies @ wrong.astype(np.float64) / np.maximum(count, 1), np.nan)


def agreement_table(first: Errors, other: Errors, number: int) -> Table:
    """Returns a table with the numbers of images on which both runs, one or neither are right."""
    kind = next(iter(first.wrong))
    a, b = ~first.wrong[kind], ~other.wrong[kind]
    counts = {"both": a & b, f"only {first.run}": a & ~b, f"only {other.run}": b & ~a, "none": ~a & ~b}
    rows = [(name, int(chosen.sum()), float(chosen.mean())) for name, chosen in counts.items()]
    return Table(f"agreement_{number}", "Right about an image", ("run", "images", "share"), rows)
