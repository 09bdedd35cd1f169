"""ResNet-18/34/50/101/152 and plain-18/34 for ImageNet (section 3.3, Table 1, Figures 3 and 5)."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.config import PlainConfig, ResNetConfig
from resdet.backbones.layers import Backbone, ConvNorm, conv_relu, initialize

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)
STRIDES = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}


class PadShortcut(nn.Module):
    """Option A: strided identity without parameters; additional channels are zero."""

    def __init__(self, extra: int, stride: int):
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        return f"extra={self.extra}, stride={self.stride}"


def make_shortcut(option: str, in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Module:
    """Creates options A, B and C of section 4.1 ("Identity vs. Projection Shortcuts")."""
    changes = in_channels != out_channels or stride != 1
    if option == "C" or (option == "B" and changes):
        return ConvNorm(in_channels, out_channels, 1, stride, norm)
    return PadShortcut(out_channels - in_channels, stride) if changes else nn.Identity()


class ResidualBlock(nn.Module):
    """y = F(x) + x (eq. 1 and 2), with the second ReLU after the addition."""

    shortcut: nn.Module

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x).add_(self.shortcut(x)), inplace=True)


class BasicBlock(ResidualBlock):
    """Figure 5, left: two 3×3 layers."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: str, norm: str):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, width, 3, stride, norm)
        self.conv2 = ConvNorm(width, width, 3, 1, norm)
        self.shortcut = make_shortcut(shortcut, in_channels, width, stride, norm)

    def residual(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x), inplace=True))


class Bottleneck(ResidualBlock):
    """Figure 5, right: a 1×1 layer that reduces, a 3×3 layer, and a 1×1 layer that restores four times the width."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: str, norm: str, stride_in: str):
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = ConvNorm(in_channels, width, 1, stride_1x1, norm)
        self.conv2 = ConvNorm(width, width, 3, stride_3x3, norm)
        self.conv3 = ConvNorm(width, 4 * width, 1, 1, norm)
        self.shortcut = make_shortcut(shortcut, in_channels, 4 * width, stride, norm)

    def residual(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x), inplace=True)
        return self.conv3(F.relu(self.conv2(x), inplace=True))


class PlainBlock(nn.Module):
    """The two layers of a BasicBlock without its shortcut (Figure 3, middle)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norm: str):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, width, 3, stride, norm)
        self.conv2 = ConvNorm(width, width, 3, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x), inplace=True)), inplace=True)


Block = type[BasicBlock] | type[Bottleneck] | type[PlainBlock]


def make_stage(block: Block, in_channels: int, width: int, count: int, stride: int, **options: Any) -> nn.Sequential:
    """Creates `count` blocks of equal width; the first one has the stride (conv3_1, conv4_1 and conv5_1)."""
    rest = (block(width * block.expansion, width, 1, **options) for _ in range(count - 1))
    return nn.Sequential(block(in_channels, width, stride, **options), *rest)


def last_unit(block: nn.Module) -> ConvNorm:
    """Returns the last convolution and norm of a block's residual function."""
    return cast(ConvNorm, block.conv3 if isinstance(block, Bottleneck) else block.conv2)


def zero_last_norms(net: nn.Module) -> None:
    """Sets the last norm weight of each block to 0, so that blocks start as identities."""
    for block in net.modules():
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(cast(Tensor, last_unit(block).norm.weight))


class ResNet(Backbone):
    """Table 1: a 7×7 stem, four stages, global average pooling and a linear classifier."""

    stages = {"c2": "conv2_x", "c3": "conv3_x", "c4": "conv4_x", "c5": "conv5_x"}
    strides = STRIDES
    pool_window = 7

    def __init__(self, block: Block, counts: tuple[int, ...], num_classes: int, norm: str, **options: Any):
        super().__init__()
        self.conv1 = ConvNorm(3, WIDTHS[0], 7, 2, norm)
        self.channels, channels = {}, WIDTHS[0]
        for (name, attribute), width, count in zip(self.stages.items(), WIDTHS, counts):
            stride = 1 if name == "c2" else 2
            setattr(self, attribute, make_stage(block, channels, width, count, stride, norm=norm, **options))
            channels = self.channels[name] = width * block.expansion
        self.register_module("fc", nn.Linear(channels, num_classes) if num_classes else None)
        initialize(self)

    def stem(self, images: Tensor) -> Tensor:
        return F.max_pool2d(conv_relu(self.conv1, images), 3, 2, 1)


def resnet(config: ResNetConfig, depth: int, num_classes: int) -> ResNet:
    block: Block = BasicBlock if depth < 50 else Bottleneck
    options = {} if depth < 50 else {"stride_in": config.stride_in}
    net = ResNet(block, BLOCKS[depth], num_classes, config.norm, shortcut=config.shortcut, **options)
    if config.zero_init:
        zero_last_norms(net)
    return net


def plain(config: PlainConfig, depth: int, num_classes: int) -> ResNet:
    return ResNet(PlainBlock, BLOCKS[depth], num_classes, config.norm)
