"""Sampling frequencies of images, compared with the formulas in loops."""

import numpy as np
import pytest

from resdet.detection.data.class_balance import class_aware, repeat_factors


@pytest.fixture
def presence(rng):
    """Makes 50 images, the last ten without objects; class 2 is rare and class 3 has no image."""
    table = rng.random((50, 5)) < [0.8, 0.3, 0.05, 0, 0.1]
    table[0, 2], table[40:] = True, False
    return table


def test_repeat_factors(presence):
    found = repeat_factors(*np.nonzero(presence), 50, 0.25)
    for image in range(50):
        classes = np.flatnonzero(presence[image])
        wanted = max([1, *(np.sqrt(0.25 / presence[:, c].mean()) for c in classes)])
        assert found[image] == pytest.approx(wanted)
    assert found.max() > 1.2 and (found[40:] == 1).all()


@pytest.mark.parametrize("negatives", [0, 0.25])
def test_class_aware(presence, negatives):
    found = class_aware(*np.nonzero(presence), 50, negatives)
    assert found.sum() == pytest.approx(50)
    empty = ~presence.any(1)
    assert found[empty].sum() == pytest.approx(50 * negatives) and np.ptp(found[empty]) == 0
    chance = np.zeros(50)
    there = [c for c in range(5) if presence[:, c].any()]
    for c in there:
        for image in np.flatnonzero(presence[:, c]):
            chance[image] += 1 / len(there) / presence[:, c].sum()
    np.testing.assert_allclose(found[~empty], 50 * (1 - negatives) * chance[~empty])


def test_one_class_and_one_image_without_objects():
    np.testing.assert_allclose(class_aware(np.array([0, 1]), np.array([0, 0]), 3, 0.3), [1.05, 1.05, 0.9])


def test_no_negatives_and_no_objects():
    np.testing.assert_allclose(class_aware(np.array([0, 1, 1]), np.array([0, 0, 1]), 2, 0.5), [0.5, 1.5])
    none = np.zeros(0, np.int64)
    np.testing.assert_allclose(class_aware(none, none, 4, 0.1), np.ones(4))
    np.testing.assert_allclose(repeat_factors(none, none, 4, 0.1), np.ones(4))
