"""Nets narrower than the papers', and shallower ones, for tests that train, trace and save whole models."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from resdet.backbones import resnet
from resdet.necks import fpn

TRUE, NARROW = resnet.WIDTHS, (16, 32, 64, 64)
SHALLOW = (1, 1, 1, 1)


@contextlib.contextmanager
def narrow_resnets(widths: tuple[int, ...] = NARROW) -> Iterator[None]:
    """Builds ResNets with these widths meanwhile: by default with a fiftieth of the weights."""
    before, resnet.WIDTHS = resnet.WIDTHS, widths
    try:
        yield
    finally:
        resnet.WIDTHS = before


@contextlib.contextmanager
def shallow_nets(widths: tuple[int, ...] = NARROW) -> Iterator[None]:
    """Builds ResNet-18 narrow and with one block a stage meanwhile, and pyramids of three levels in place of five.

    Their graphs have half the nodes, for compilers and exporters.
    """
    with (
        narrow_resnets(widths),
        mock.patch.dict(resnet.BLOCKS, {18: SHALLOW}),
        mock.patch.object(fpn, "FINEST_STRIDE", 16),
    ):
        yield
