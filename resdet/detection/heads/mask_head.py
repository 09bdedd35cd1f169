"""The mask head of Mask R-CNN (1703.06870, Figure 4)."""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.layers import ConvNorm
from resdet.detection.heads.config import MaskConfig


class MaskHead(nn.Module):
    """3×3 convolutions, upsampling, a mask for each class (Figure 4, right); no 3×3 convolutions after conv5_x."""

    def __init__(self, channels: int, convs: int, width: int, norm: str | None, classes: int):
        super().__init__()
        widths = [channels] + [width] * convs
        self.convs = nn.ModuleList(ConvNorm(a, b, 3, norm=norm) for a, b in zip(widths, widths[1:]))
        self.upsample = nn.ConvTranspose2d(widths[-1], width, 2, stride=2)
        self.masks = nn.Conv2d(width, classes, 1)
        for layer in (*(unit.conv for unit in cast(Iterable[ConvNorm], self.convs)), self.upsample):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        # Small, so that initial masks are 0.5 everywhere, for features of any scale.
        nn.init.normal_(self.masks.weight, std=0.001)
        nn.init.zeros_(cast(nn.Parameter, self.masks.bias))

    def forward(self, x: Tensor) -> Tensor:
        """RoI features [R, C, s, s] -> logits [R, classes, 2s, 2s]."""
        for unit in self.convs:
            x = F.relu(unit(x), inplace=True)
        return self.masks(F.relu(self.upsample(x), inplace=True))


def conv_mask_head(config: MaskConfig, channels: int, classes: int) -> MaskHead:
    """Builds the head of a config."""
    return MaskHead(channels, config.convs, config.width, config.norm, classes)


def mask_of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Masks [R, C, m, m] and labels [R] -> masks of the labels [R, m, m]."""
    return logits.gather(1, labels[:, None, None, None].expand(-1, 1, *logits.shape[2:]))[:, 0]
