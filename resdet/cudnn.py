"""Selection of cuDNN's algorithms."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fastest_algorithms() -> Iterator[None]:
    """Enables cuDNN's benchmark mode: the first convolution of each shape selects the fastest algorithm.

    Use it for recurring shapes, since a search takes as long as dozens of convolutions. It stays off with deterministic
    algorithms: timings differ between runs, and so would the selected algorithms and their rounding.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
