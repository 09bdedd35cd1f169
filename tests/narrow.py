"""Builds nets that are narrower and shallower than the papers', for tests that train, trace and save whole models."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from resdet.backbones import resnet
from resdet.necks import fpn

TRUE, NARROW = resnet.WIDTHS, (16, 32, 64, 64)
SHALLOW = (1, 1, 1, 1)


@contextlib.contextmanager
def narrow_resnets(widths: tuple[int, ...] = NARROW) -> Iterator[None]:
    """Sets the stage widths of all ResNets built within the context."""
    before, resnet.WIDTHS = resnet.WIDTHS, widths
    try:
        yield
    finally:
        resnet.WIDTHS = before


@contextlib.contextmanager
def shallow_nets(widths: tuple[int, ...] = NARROW) -> Iterator[None]:
    """Builds ResNet-18 with narrow stages of one block, and pyramids of three levels, within the context.

    This halves the graphs for compilers and exporters.
    """
    with (
        narrow_resnets(widths),
        mock.patch.dict(resnet.BLOCKS, {18: SHALLOW}),
        mock.patch.object(fpn, "FINEST_STRIDE", 16),
    ):
        yield
