"""Tests the tables and pictures of a localizer's report, and comparisons of two runs, for given overlaps."""

from types import SimpleNamespace

import numpy as np
import pytest
from painted import CLASSES, Painted

from resdet.errors import ConfigError
from resdet.localization.comparison import check_same_data, section
from resdet.localization.evaluate import Located
from resdet.localization.report import (
    Evaluated,
    class_table,
    error_table,
    overlap_chart,
    worst_pictures,
)


def evaluated(overlaps, name="a", seed=0) -> Evaluated:
    """Returns a run on images of classes 0, 1, 0, 1, … with these IoUs."""
    count = len(overlaps)
    source = Painted.random(count, seed=seed)
    boxes = source.things[:, None] + 1
    located = Located(np.arange(count), boxes, np.ones((count, 1)), np.full((count, 2), 48), {})
    names = [source.name(i) for i in range(count)]
    truth = [source.boxes(i) for i in range(count)]
    return Evaluated(SimpleNamespace(name=name), None, source, names, located, truth, np.array(overlaps))


def test_tables_and_chart():
    run = evaluated([0.9, 0.05, 0.5, 0.3])
    run.source.classes = [*CLASSES, "n00000003"]
    assert [row[1:] for row in error_table(run.overlaps).rows] == [(2, 0.5), (1, 0.25), (1, 0.25)]
    assert class_table(run.source, run.located, run.overlaps).rows == [
        (CLASSES[0], 2, 0.0),
        (CLASSES[1], 2, 1.0),
        ("n00000003", 0, None),
    ]
    (line,) = overlap_chart(run.overlaps).lines
    assert [line.y[place] for place in (0, 20, 50, 51, 100)] == [1, 0.75, 0.5, 0.25, 0]


def test_the_worst_pictures_come_first():
    run = evaluated([0.9, 0.05, 0.5, 0.3])
    pictures = worst_pictures(run.source, run.located, run.truth, run.overlaps)
    assert [picture.caption for picture in pictures] == [f"{CLASSES[1]}, IoU 0.05", f"{CLASSES[1]}, IoU 0.30"]
    many = evaluated(np.zeros(30))
    assert len(worst_pictures(many.source, many.located, many.truth, many.overlaps)) == 24


def test_a_comparison_shows_images_that_only_one_run_locates():
    """Images 0 and 3 are lost, the first one by the larger margin; image 2 is gained, and image 1 is right in both."""
    first, second = evaluated([0.9, 0.9, 0.4, 0.6], "a"), evaluated([0.2, 0.8, 0.7, 0.4], "b")
    shown = section(first, second, 2, 5)
    lost, gained = (part for part in shown.parts if hasattr(part, "pictures"))
    names = first.names
    assert (lost.title, [picture.name for picture in lost.pictures]) == ("Only a is right", [names[0], names[3]])
    assert (gained.title, [picture.name for picture in gained.pictures]) == ("Only b is right", [names[2]])
    assert lost.pictures[0].caption == f"{CLASSES[0]}, a: IoU 0.90, b: IoU 0.20"


@pytest.mark.parametrize("part", ["names", "classes", "indices", "labels", "truth"])
def test_runs_on_other_data_are_refused(part):
    first, other = evaluated([0.9, 0.8], "a"), evaluated([0.9, 0.8], "b")
    check_same_data(first, other)
    if part == "names":
        other.names[1] = "x.JPEG"
    elif part == "classes":
        other.source.classes = CLASSES[::-1]
    elif part == "indices":
        other.located.indices[:] = [1, 0]
        other.source.labels[:] = other.source.labels[::-1].copy()
    elif part == "labels":
        other.source.labels[0] = 1
    else:
        other.truth[0][0, 0] += 1
    with pytest.raises(ConfigError, match="b and a have other validation data"):
        check_same_data(first, other)
