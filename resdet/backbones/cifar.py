"""The nets of section 4.2 for 32×32 images: 6n+2 layers, widths 16, 32 and 64, always with option A."""

from typing import Any

from torch import Tensor, nn

from resdet.backbones.config import CifarNetConfig, cifar_blocks
from resdet.backbones.layers import Backbone, ConvNorm, conv_relu, initialize
from resdet.backbones.resnet import BasicBlock, Block, PlainBlock, make_stage, zero_last_norms

WIDTHS = (16, 32, 64)
STRIDES = {"c2": 1, "c3": 2, "c4": 4}


class CifarNet(Backbone):
    """A 3×3 stem and three stages of 2n layers on maps with sides of 32, 16 and 8."""

    stages = {"c2": "conv2_x", "c3": "conv3_x", "c4": "conv4_x"}
    strides = STRIDES
    channels = dict(zip(STRIDES, WIDTHS))
    pool_window = 8

    def __init__(self, block: Block, n: int, num_classes: int, norm: str, **options: Any):
        super().__init__()
        self.conv1 = ConvNorm(3, WIDTHS[0], 3, 1, norm)
        channels = WIDTHS[0]
        for (name, attribute), width in zip(self.stages.items(), WIDTHS):
            stride = 1 if name == "c2" else 2
            setattr(self, attribute, make_stage(block, channels, width, n, stride, norm=norm, **options))
            channels = width
        self.register_module("fc", nn.Linear(channels, num_classes) if num_classes else None)
        initialize(self)

    def stem(self, images: Tensor) -> Tensor:
        return conv_relu(self.conv1, images)


def cifar_net(config: CifarNetConfig, num_classes: int) -> CifarNet:
    residual, n = cifar_blocks(config.name)
    if not residual:
        return CifarNet(PlainBlock, n, num_classes, config.norm)
    net = CifarNet(BasicBlock, n, num_classes, config.norm, shortcut="A")
    if config.zero_init:
        zero_last_norms(net)
    return net
