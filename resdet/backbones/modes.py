"""Context manager for eval mode."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(nets: Sequence[nn.Module]) -> Iterator[None]:
    """Sets the nets to eval mode, and restores their modes on exit."""
    # A search for a module in train mode takes an eighth of the time of setting all modules.
    modes = {net: net.training for net in nets if any(module.training for module in net.modules())}
    try:
        for net in modes:
            net.eval()
        yield
    finally:
        for net, mode in modes.items():
            net.train(mode)
