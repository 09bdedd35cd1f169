"""Compares localization runs, with the ground-truth class, with the first one on the same validation images."""

from collections.abc import Sequence

import numpy as np

from resdet.errors import ConfigError
from resdet.localization.loc_error import MIN_IOU
from resdet.localization.report import BOX, Evaluated, boxed, evaluate_run
from resdet.results.differences import most, room
from resdet.results.error_differences import Errors, error_section
from resdet.results.sections import TRUTH, Gallery, Picture, Section, picture
from resdet.tasks import EvaluatedRun


def compare(runs: Sequence[EvaluatedRun]) -> list[Section]:
    """Returns a section for each run except the first."""
    first, *others = map(evaluate_run, runs)
    for other in others:
        check_same_data(first, other)
    return [section(first, other, number, room(len(others))) for number, other in enumerate(others, 2)]


def check_same_data(first: Evaluated, other: Evaluated) -> None:
    same = (
        first.names == other.names
        and first.source.classes == other.source.classes
        and np.array_equal(first.located.indices, other.located.indices)
        and np.array_equal(first.labels, other.labels)
        and all(np.array_equal(a, b) for a, b in zip(first.truth, other.truth))
    )
    if not same:
        raise ConfigError(
            f"{other.run.name} and {first.run.name} have other validation data: compare runs on the same images "
            "and boxes, or set data.root for both."
        )


def section(first: Evaluated, other: Evaluated, number: int, room: int) -> Section:
    a, b = (Errors(each.run.name, {"error": each.overlaps < MIN_IOU}) for each in (first, other))
    galleries = [
        gallery(first, other, f"lost_{number}", f"Only {first.run.name} is right", room),
        gallery(other, first, f"gained_{number}", f"Only {other.run.name} is right", room),
    ]
    return error_section(a, b, first.labels, first.source.classes, number, galleries)


def gallery(right: Evaluated, wrong: Evaluated, key: str, title: str, room: int) -> Gallery:
    """Shows the images whose object only `right` localizes, by the difference in IoU."""
    chosen = (right.overlaps >= MIN_IOU) & (wrong.overlaps < MIN_IOU)
    margin = np.where(chosen, right.overlaps - wrong.overlaps, 0)
    pictures = [compared_picture(right, wrong, place) for place in most(margin, room)]
    return Gallery(key, title, pictures, "By the difference of the IoU.")


def compared_picture(right: Evaluated, wrong: Evaluated, place: int) -> Picture:
    source, index = right.source, int(right.located.indices[place])
    name = source.classes[right.labels[place]]
    layers = {TRUTH: boxed(right.truth[place], name)}
    layers |= {f"{BOX} of {each.run.name}": boxed(each.located.boxes[place], name) for each in (right, wrong)}
    overlaps = ", ".join(f"{each.run.name}: IoU {each.overlaps[place]:.2f}" for each in (right, wrong))
    return picture(source.image(index).decode(), right.names[index], f"{name}, {overlaps}", layers)
