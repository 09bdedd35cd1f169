"""A custom backbone: a config dataclass with `build`, registered under its name.

resdet train --config shapes_r18.yaml --import backbone model.backbone=stride_net
"""

from dataclasses import dataclass

from torch import Tensor, nn

import resdet
from resdet.backbones import Backbone, BackboneConfig


@resdet.backbones.register("stride_net")
@dataclass
class StrideNetConfig(BackboneConfig):
    """One strided convolution per stage; `width` channels in the first stage, doubled in each later stage."""

    name: str = "stride_net"
    width: int = 32

    def build(self, num_classes: int) -> Backbone:
        return StrideNet(self.width, num_classes)


class StrideNet(Backbone):
    stages = {"c2": "stage2", "c3": "stage3", "c4": "stage4", "c5": "stage5"}  # feature name -> attribute
    strides = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}
    pool_window = 7  # side of c5 for an image of 224 pixels

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        widths = [width * 2**n for n in range(4)]
        self.channels = dict(zip(self.stages, widths))
        self.conv1 = block(3, width)
        self.stage2 = block(width, widths[0])
        self.stage3 = block(widths[0], widths[1])
        self.stage4 = block(widths[1], widths[2])
        self.stage5 = block(widths[2], widths[3])
        self.fc = nn.Linear(widths[3], num_classes) if num_classes else None

    def stem(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, width, H/2, W/2]."""
        return self.conv1(images)


def block(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
