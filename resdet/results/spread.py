"""Choice of a few images or points among many."""

import numpy as np


def spread(length: int, count: int) -> list[int]:
    """At most `count` numbers below `length`, evenly spaced."""
    numbers: list[int] = np.linspace(0, length - 1, min(count, length)).astype(int).tolist()
    return numbers
