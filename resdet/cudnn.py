"""cuDNN's choice of algorithms."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fastest_algorithms() -> Iterator[None]:
    """Context in which cuDNN times its algorithms at the first convolution of each shape, and then uses the fastest.

    For shapes that recur, since a search takes as long as dozens of convolutions. Off with deterministic algorithms:
    timings differ between runs, and so would the algorithms and their rounding.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
