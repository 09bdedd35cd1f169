"""Compares classification runs with the first one on the same validation images."""

from collections.abc import Sequence

import numpy as np

from resdet.classification.report import Evaluated, evaluate_run, hits, tops
from resdet.errors import ConfigError
from resdet.results.differences import most, room
from resdet.results.error_differences import Errors, error_section
from resdet.results.sections import Gallery, Picture, Section, picture
from resdet.tasks import EvaluatedRun


def compare(runs: Sequence[EvaluatedRun]) -> list[Section]:
    """Returns a section for each run except the first."""
    first, *others = map(evaluate_run, runs)
    for other in others:
        check_same_data(first, other)
    return [section(first, other, number, room(len(others))) for number, other in enumerate(others, 2)]


def check_same_data(first: Evaluated, other: Evaluated) -> None:
    a, b = first.predictions, other.predictions
    same = np.array_equal(a.indices, b.indices) and np.array_equal(a.labels, b.labels)
    if not (same and first.names == other.names and first.classes == other.classes):
        raise ConfigError(
            f"{other.run.name} and {first.run.name} have other validation data: compare runs on the same images "
            "and classes, or set data.root for both."
        )


def section(first: Evaluated, other: Evaluated, number: int, room: int) -> Section:
    a, b = (
        Errors(each.run.name, {f"top-{top} error": ~hits(each.predictions, top) for top in tops(each.classes)})
        for each in (first, other)
    )
    galleries = [
        gallery(first, other, f"lost_{number}", f"Only {first.run.name} is right", room),
        gallery(other, first, f"gained_{number}", f"Only {other.run.name} is right", room),
    ]
    return error_section(a, b, first.predictions.labels, first.classes, number, galleries)


def gallery(right: Evaluated, wrong: Evaluated, key: str, title: str, room: int) -> Gallery:
    """Shows the images that only `right` classifies correctly, by the difference of the scores of their label."""
    chosen = hits(right.predictions, 1) & ~hits(wrong.predictions, 1)
    margin = np.where(chosen, np.maximum(right.predictions.truth - wrong.predictions.truth, np.finfo(float).tiny), 0)
    pictures = [compared_picture(right, wrong, place) for place in most(margin, room)]
    return Gallery(key, title, pictures, "By the difference of the scores of their label.")


def compared_picture(right: Evaluated, wrong: Evaluated, place: int) -> Picture:
    index, classes = int(right.predictions.indices[place]), right.classes
    guesses = (
        f"{each.run.name}: {classes[each.predictions.best[place, 0]]} {each.predictions.scores[place, 0]:.2f}"
        for each in (right, wrong)
    )
    return picture(right.images.pixels(index), right.names[index], ", ".join(guesses))
