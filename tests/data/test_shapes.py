"""Checks the generated data set of shapes."""

import numpy as np
import pytest

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
