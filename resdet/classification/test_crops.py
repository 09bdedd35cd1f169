"""Test views of a classifier (section 3.4): one crop, ten crops, or the whole image at several scales.

Class probabilities are averaged over the views, and over the nets of an ensemble (Table 5).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.classification.config import TestCropsConfig
from resdet.classification.model import Classifier
from resdet.images.crops import Image, center_crop, rectangle, ten_crop


class Scorable(Protocol):
    """A classifier or its export."""

    classes: list[str]
    size: int
    short: int

    def __call__(self, images: Tensor, /) -> Tensor: ...


PAPER_SIZE = 224
PAPER_SCALES = (224, 256, 384, 480, 640)  # section 3.4

TestCrops = Callable[[Image], list[Tensor]]  # image -> views uint8 [V, 3, H, W], one tensor per scale


def build_test_crops(config: TestCropsConfig, size: int, short: int) -> TestCrops:
    """Returns the function that crops the views of an image."""
    if config.views == "center":
        return partial(center_crops, short=short, size=size)
    if config.views == "ten_crop":
        return partial(ten_crops, short=short, size=size)
    scales = config.scales or [round(scale * size / PAPER_SIZE) for scale in PAPER_SCALES]
    return partial(dense, scales=scales, flip=config.flip)


def center_crops(image: Image, short: int, size: int) -> list[Tensor]:
    return [as_tensor(center_crop(image, short, size)[None])]


def ten_crops(image: Image, short: int, size: int) -> list[Tensor]:
    """Returns the views of the standard 10-crop testing of Tables 2 and 3."""
    return [as_tensor(ten_crop(image, short, size))]


def dense(image: Image, scales: Sequence[int], flip: bool) -> list[Tensor]:
    """Returns the whole image and its mirror image at each scale (Table 4)."""
    whole = [rectangle(image, scale) for scale in scales]
    return [as_tensor(np.stack([view, view[:, ::-1]] if flip else [view])) for view in whole]


def as_tensor(views: np.ndarray) -> Tensor:
    """Converts uint8 [V, H, W, 3] to [V, 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2)


class Scorer:
    """Computes class probabilities of views, averaged over scales and over the nets of an ensemble."""

    def __init__(self, models: Sequence[Scorable], device: torch.device, dense: bool):
        self.models, self.device, self.dense = models, device, dense

    def logits(self, model: Scorable, views: Tensor) -> Tensor:
        """Returns [V, C]; a dense pass averages the class score map over positions before the softmax."""
        if not self.dense:
            return model(views)
        net = cast(Classifier, model)
        return net.backbone.dense(net.normalize(views)).mean((2, 3))

    def __call__(self, scales: list[Tensor]) -> Tensor:
        """Maps views [V, 3, H, W] of each scale to probabilities [V, C], averaged over scales and nets."""
        total: Any = 0
        for views in scales:
            pixels = views.to(self.device, non_blocking=True)
            total = total + sum(
                F.softmax(self.logits(model, pixels).to(self.device).float(), 1) for model in self.models
            )
        return total / (len(scales) * len(self.models))
