"""Selection of a few images or points from many."""

import numpy as np


def spread(length: int, count: int) -> list[int]:
    """Returns at most `count` evenly spaced numbers below `length`."""
    numbers: list[int] = np.linspace(0, length - 1, min(count, length)).astype(int).tolist()
    return numbers
