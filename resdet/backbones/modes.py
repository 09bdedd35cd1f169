"""Context manager for eval mode."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(nets: Sequence[nn.Module]) -> Iterator[None]:
    """Sets the nets to eval mode, and restores their modes on exit."""
    modes = [net.training for net in nets]
    try:
        for net in nets:
            net.eval()
        yield
    finally:
        for net, mode in zip(nets, modes):
            net.train(mode)
