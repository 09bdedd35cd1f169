"""A custom box head and a custom mask head: functions that build a module from the config.

resdet train --config shapes_mask_r18_fpn.yaml --import heads model.box.head=average model.mask.head=plain
"""

from torch import Tensor, nn

import resdet
from resdet.detection.heads.config import BoxConfig, MaskConfig


@resdet.detection.register_box_head("average")
def average_head(config: BoxConfig, channels: int, size: int) -> nn.Module:
    """Global average pooling and one linear layer, instead of two linear layers on the flattened features."""
    return AverageHead(channels, config.width)


class AverageHead(nn.Module):
    def __init__(self, channels: int, width: int):
        super().__init__()
        self.linear, self.width = nn.Linear(channels, width), width  # `width` is read by the predictor

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features [R, channels, size, size] -> [R, width]."""
        return self.linear(x.mean((2, 3))).relu()


@resdet.detection.register_mask_head("plain")
def plain_mask_head(config: MaskConfig, channels: int, classes: int) -> nn.Module:
    """Pooled features [R, channels, s, s] -> logits [R, classes, 2s, 2s], without 3×3 convolutions."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, config.width, 2, 2), nn.ReLU(), nn.Conv2d(config.width, classes, 1)
    )
