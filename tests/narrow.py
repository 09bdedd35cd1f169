"""Builds narrower and shallower ResNets than the paper's, for tests that train, trace and save whole models."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from resdet.backbones import resnet

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
def shallow_resnets(widths: tuple[int, ...] = NARROW) -> Iterator[None]:
    """Builds ResNet-18 with narrow stages of one block within the context; this halves the graph for compilers."""
    with narrow_resnets(widths), mock.patch.dict(resnet.BLOCKS, {18: SHALLOW}):
        yield
