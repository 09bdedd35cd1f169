"""Anchors of the region proposal network, computed from the shapes of the feature maps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from resdet.ops.buffers import ExactBuffers


class Anchors(ExactBuffers):
    """Boxes around the origin, per level, shifted to every position."""

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float], rounded: bool):
        """`rounded`: anchors in torchvision's style (`AnchorConfig.style`)."""
        super().__init__()
        self.rounded = rounded
        for level, sides in enumerate(sizes):
            self.register_buffer(f"cell{level}", cell(sides, ratios, rounded), persistent=False)
        self.levels = len(sizes)
        self.per_position = len(sizes[0]) * len(ratios)

    def forward(self, maps: Sequence[Tensor], strides: Sequence[int], image: Sequence[int]) -> list[Tensor]:
        """Returns boxes [h·w·A, 4] per level, ordered by position; `image`: padded height and width."""
        return [
            self.shifted(getattr(self, f"cell{level}"), x.shape[-2:], self.steps(x.shape[-2:], stride, image))
            for level, (x, stride) in enumerate(zip(maps, strides))
        ]

    def steps(self, shape: Sequence[int], stride: int, image: Sequence[int]) -> tuple[int, int]:
        if self.rounded:
            return image[0] // shape[0], image[1] // shape[1]
        return stride, stride

    def shifted(self, boxes: Tensor, shape: Sequence[int], steps: tuple[int, int]) -> Tensor:
        y = torch.arange(shape[0], device=boxes.device, dtype=torch.float32) * steps[0]
        x = torch.arange(shape[1], device=boxes.device, dtype=torch.float32) * steps[1]
        x, y = x[None, :].expand(*shape), y[:, None].expand(*shape)
        positions = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        return (positions + boxes).reshape(-1, 4)


def cell(sides: Sequence[float], ratios: Sequence[float], rounded: bool) -> Tensor:
    """Returns boxes [A, 4] around the origin, of area side², ordered by side (detectron2), or by ratio if `rounded`
    (torchvision)."""
    pairs = [(side, ratio) for ratio in ratios for side in sides]
    if not rounded:
        pairs = [(side, ratio) for side in sides for ratio in ratios]
    half = torch.tensor([(side / ratio**0.5, side * ratio**0.5) for side, ratio in pairs], dtype=torch.float32) / 2
    boxes = torch.cat([-half, half], 1)
    return boxes.round() if rounded else boxes
