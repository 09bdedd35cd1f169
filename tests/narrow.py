"""ResNets narrower than the paper's, for tests that train and save whole models."""

import contextlib
from collections.abc import Iterator

from resdet.backbones import resnet

TRUE, NARROW = resnet.WIDTHS, (16, 32, 64, 64)


@contextlib.contextmanager
def narrow_resnets(widths: tuple[int, ...] = NARROW) -> Iterator[None]:
    """Builds ResNets with these widths meanwhile: by default with a fiftieth of the weights."""
    before, resnet.WIDTHS = resnet.WIDTHS, widths
    try:
        yield
    finally:
        resnet.WIDTHS = before
