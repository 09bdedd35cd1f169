"""Tests the result of a classifier."""

import numpy as np

from resdet.results.classification import Classification


def test_a_classification_shows_as_one_line_of_classes():
    found = Classification(np.array([2, 0]), np.array([0.75, 0.25]), ["cat", "dog"], np.zeros((9, 9, 3), np.uint8))
    assert str(found) == "cat 0.750, dog 0.250" and repr([found]) == "[<Classification: cat 0.750, dog 0.250>]"
