"""Test views of a classifier (section 3.4): one crop, ten crops, or the whole image at several scales.

Class probabilities are averaged over the views, and over the nets of an ensemble (Table 5).
"""

from collections.abc import Callable, Sequence
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


TestCrops = Callable[[Image], list[np.ndarray]]  # image -> views uint8 [V, H, W, 3], one array per scale


def tensors(crops: TestCrops, image: Image) -> list[Tensor]:
    """The views of an image, uint8 [V, 3, H, W], one tensor per scale."""
    return [torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2) for views in crops(image)]


def build_test_crops(config: TestCropsConfig, size: int, short: int) -> TestCrops:
    """The function that crops the views of an image."""
    if config.views == "center":
        return CenterCrop(short, size)
    if config.views == "ten_crop":
        return TenCrop(short, size)
    return Dense(list(config.scales), config.flip)


class CenterCrop:
    def __init__(self, short: int, size: int):
        self.short, self.size = short, size

    def __call__(self, image: Image) -> list[np.ndarray]:
        return [center_crop(image, self.short, self.size)[None]]


class TenCrop(CenterCrop):
    """The standard 10-crop testing of Tables 2 and 3."""

    def __call__(self, image: Image) -> list[np.ndarray]:
        return [ten_crop(image, self.short, self.size)]


class Dense:
    """The whole image and its mirror image at each scale (Table 4)."""

    def __init__(self, scales: list[int], flip: bool):
        self.scales, self.flip = scales, flip

    def __call__(self, image: Image) -> list[np.ndarray]:
        whole = [rectangle(image, scale) for scale in self.scales]
        return [np.stack([view, view[:, ::-1]] if self.flip else [view]) for view in whole]


class Scorer:
    """Class probabilities of views, averaged over scales and over the nets of an ensemble."""

    def __init__(self, models: Sequence[Scorable], device: torch.device, dense: bool):
        self.models, self.device, self.dense = models, device, dense

    def logits(self, model: Scorable, views: Tensor) -> Tensor:
        """[V, C]; a dense pass averages the class score map over positions before the softmax."""
        if not self.dense:
            return model(views)
        net = cast(Classifier, model)
        return net.backbone.dense(net.normalize(views)).mean((2, 3))

    def __call__(self, scales: list[Tensor]) -> Tensor:
        """Views [V, 3, H, W] of each scale -> probabilities [V, C], averaged over scales and nets."""
        total: Any = 0
        for views in scales:
            pixels = views.to(self.device, non_blocking=True)
            total = total + sum(F.softmax(self.logits(model, pixels).float(), 1) for model in self.models)
        return total / (len(scales) * len(self.models))
