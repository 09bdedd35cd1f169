"""A custom neck: a config dataclass with `build`, registered under its name.

resdet train --config shapes_mask_r18_fpn.yaml --import neck model.neck=lateral model.neck.width=64
"""

from dataclasses import dataclass

from torch import Tensor, nn

import resdet
from resdet.backbones import Backbone
from resdet.necks import Neck, NeckConfig


@resdet.necks.register("lateral")
@dataclass
class LateralConfig(NeckConfig):
    """A 1×1 convolution per level of the backbone, without a top-down path."""

    name: str = "lateral"
    width: int = 256

    def build(self, backbone: Backbone) -> Neck:
        return Lateral(backbone, self.width)


class Lateral(Neck):
    def __init__(self, backbone: Backbone, width: int):
        super().__init__()
        self.convs = nn.ModuleDict({name: nn.Conv2d(n, width, 1) for name, n in backbone.channels.items()})
        self.strides = {name.replace("c", "p"): stride for name, stride in backbone.strides.items()}
        self.channels = dict.fromkeys(self.strides, width)
        self.roi_levels = list(self.strides)  # RoI features come from all levels

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name.replace("c", "p"): conv(features[name]) for name, conv in self.convs.items()}
