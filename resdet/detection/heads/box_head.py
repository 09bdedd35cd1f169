"""RoI pooling, box heads, and the layers that predict scores and boxes."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.layers import conv_stack, init_convs
from resdet.detection.heads.config import BoxConfig
from resdet.ops.roi_align import assign_levels, roi_align
from resdet.ops.roi_pool import roi_pool


class RoIPooler(nn.Module):
    """Pools RoI features from the level that fits the size of the RoI (FPN, equation 1)."""

    def __init__(
        self, strides: Sequence[int], size: int, kind: str, sampling: int, aligned: bool, canonical: float = 224.0
    ):
        super().__init__()
        self.scales = [1 / stride for stride in strides]
        self.first_level = strides[0].bit_length() - 1
        self.size, self.kind, self.sampling, self.aligned, self.canonical = size, kind, sampling, aligned, canonical

    def forward(
        self, maps: Sequence[Tensor], boxes: Tensor, whole: Tensor | None = None, images: Tensor | None = None
    ) -> Tensor:
        """Pools maps [B, C, h, w] of all levels over boxes [B, N, 4]: [B·N, C, size, size].

        `whole` [B, 2], height and width of each image, appends the whole image as an RoI of the coarsest level:
        [B·(N + 1), C, size, size]. `images`: as in `roi_align`; not supported by max pooling.
        """
        maps = list(maps[: len(self.scales)])
        # An RoI of the canonical size belongs to level 4, of stride 16.
        levels = assign_levels(boxes, len(maps), self.canonical, canonical_level=4 - self.first_level)
        if whole is not None:
            boxes = torch.cat([boxes, torch.cat([torch.zeros_like(whole), whole.flip(1)], 1)[:, None]], 1)
            levels = torch.cat([levels, levels.new_full((len(whole), 1), len(maps) - 1)], 1)
        if self.kind == "max":
            return roi_pool(maps[0], boxes, self.scales[0], self.size).flatten(0, 1)
        how = self.scales, self.size, self.sampling, self.aligned
        return roi_align(maps, boxes, levels, *how, images).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.size}×{self.size}, sampling={self.sampling}, aligned={self.aligned}"


class ConvFCHead(nn.Module):
    """3×3 convolutions and linear layers: no convolutions and 2 × 1024 units in FPN; convolutions in torchvision's
    "v2"."""

    def __init__(
        self, channels: int, size: int, convs: int, conv_width: int, norm: str | None, linears: int, width: int
    ):
        super().__init__()
        self.convs = conv_stack(channels, conv_width, convs, norm)
        widths = [(conv_width if convs else channels) * size * size] + [width] * linears
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.width = widths[-1]
        init_convs(self.convs)
        for layer in cast("Iterable[nn.Linear]", self.linears):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs(x).flatten(1)
        for layer in self.linears:
            x = F.relu(layer(x), inplace=True)
        return x


def conv_fc_head(config: BoxConfig, channels: int, size: int) -> ConvFCHead:
    """Builds the head from the config."""
    return ConvFCHead(channels, size, config.convs, config.conv_width, config.norm, config.linears, config.width)


class Conv5Head(nn.Module):
    """conv5_x per RoI and global average pooling (appendix A); its layers come from the backbone."""

    def __init__(self, conv5_x: nn.Module, width: int):
        super().__init__()
        self.conv5_x, self.width = conv5_x, width

    def maps(self, x: Tensor) -> Tensor:
        return self.conv5_x(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.vectors(self.maps(x))

    def vectors(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class VGGHead(nn.Module):
    """fc6 and fc7 of a VGG net, with dropout; its layers come from the backbone's classifier."""

    def __init__(self, fc6: nn.Linear, fc7: nn.Linear, dropout: float):
        super().__init__()
        self.fc6, self.fc7, self.dropout, self.width = fc6, fc7, dropout, fc7.out_features

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in (self.fc6, self.fc7):
            x = F.dropout(F.relu(layer(x), inplace=True), self.dropout, self.training)
        return x


class FastRCNNPredictor(nn.Module):
    """Two linear layers: class scores, background last, and box deltas per class or shared by all classes."""

    def __init__(self, width: int, classes: int, class_agnostic: bool):
        super().__init__()
        self.scores = nn.Linear(width, classes + 1)
        self.boxes = nn.Linear(width, 4 if class_agnostic else 4 * classes)
        for layer, std in ((self.scores, 0.01), (self.boxes, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """Vectors [B·N, width] -> logits [B, N, C + 1], deltas [B, N, C or 1, 4]."""
        logits, deltas = self.scores(x), self.boxes(x)
        return logits.unflatten(0, (images, -1)), deltas.unflatten(0, (images, -1)).unflatten(2, (-1, 4))
