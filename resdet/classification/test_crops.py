"""How an image is shown to a classifier at test time (section 3.4): one crop, ten crops, or whole at several scales.

Whatever the views, class probabilities are averaged over them, and over the nets of an ensemble (Table 5).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.classification.config import TestCropsConfig
from resdet.images.crops import center_crop, rectangle, ten_crop


def tensors(show: Callable[[Any], list[np.ndarray]], image: Any) -> list[Tensor]:
    """What is shown of an image, uint8 [V, 3, H, W], one entry a scale."""
    return [torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2) for views in show(image)]


def build_test_crops(config: TestCropsConfig, size: int, short: int) -> Callable[[Any], list[np.ndarray]]:
    """The function that turns an image into its views."""
    if config.views == "center":
        return CenterCrop(short, size)
    if config.views == "ten_crop":
        return TenCrop(short, size)
    return Dense(list(config.scales), config.flip)


class CenterCrop:
    def __init__(self, short: int, size: int):
        self.short, self.size = short, size

    def __call__(self, image: Any) -> list[np.ndarray]:
        return [center_crop(image, self.short, self.size)[None]]


class TenCrop(CenterCrop):
    """The standard 10-crop testing of Tables 2 and 3."""

    def __call__(self, image: Any) -> list[np.ndarray]:
        return [ten_crop(image, self.short, self.size)]


class Dense:
    """The whole image at each shorter side, and mirrored (Table 4)."""

    def __init__(self, scales: list[int], flip: bool):
        self.scales, self.flip = scales, flip

    def __call__(self, image: Any) -> list[np.ndarray]:
        shown = [rectangle(image, scale) for scale in self.scales]
        return [np.stack([view, view[:, ::-1]] if self.flip else [view]) for view in shown]


class Scorer:
    """Probabilities of images, averaged over scales and over the nets of an ensemble."""

    def __init__(self, models: Sequence[nn.Module], device: torch.device, dense: bool):
        self.models, self.device, self.dense = models, device, dense

    def logits(self, model: nn.Module, views: Tensor) -> Tensor:
        """[V, C]; a dense pass averages the class score map over positions before the softmax."""
        if not self.dense:
            return model(views)
        return model.backbone.dense(model.normalize(views)).mean((2, 3))

    def __call__(self, shown: list[Tensor]) -> Tensor:
        """Views [V, 3, H, W] of each scale -> probabilities [V, C], averaged over scales and nets."""
        total = 0
        for views in shown:
            pixels = views.to(self.device, non_blocking=True)
            total = total + sum(F.softmax(self.logits(model, pixels).float(), 1) for model in self.models)
        return total / (len(shown) * len(self.models))
