"""Checks the generated data set of shapes."""

import numpy as np
import pytest

from resdet.data import shapes
from resdet.data.shapes import CLASSES, OUTLINES, ShapeImages, draw


def test_the_same_seed_gives_the_same_images():
    first, second = (ShapeImages(12, 32, 1, "train").pixels() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (12, 3, 32, 32) and first.dtype == np.uint8
    for other in (ShapeImages(12, 32, 2, "train"), ShapeImages(12, 32, 1, "val")):
        assert (other.pixels() != first).mean() > 0.5


def test_classes_are_balanced():
    assert np.bincount(ShapeImages(100, 32, 0, "val").labels).tolist() == [10] * len(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_outlines_fill_the_unit_circle(name):
    corners = np.concatenate(OUTLINES[name]())
    assert 0.8 < np.linalg.norm(corners, axis=1).max() < 1.5


def test_images_of_any_size():
    assert draw(3, 200, np.random.default_rng(0)).shape == (200, 200, 3)


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_an_image_shows_its_class(label, monkeypatch):
    shown = []
    monkeypatch.setattr(shapes, "place", lambda outlines, *_: shown.extend(outlines) or outlines)
    draw(label, 32, np.random.default_rng(0))
    assert np.array_equal(np.concatenate(shown), np.concatenate(OUTLINES[CLASSES[label]]()))


@pytest.mark.parametrize("seed", range(20))
def test_shapes_are_inside_the_image_and_stand_out(seed):
    rng = np.random.default_rng(seed)
    (outline,) = shapes.place(OUTLINES["square"](), 50, rng)
    assert outline.min() >= 0 and outline.max() <= 50
    ground = shapes.ground(20, 10, rng)
    assert np.abs(shapes.contrasting(ground, rng) - ground.mean((0, 1))).sum() > 150
