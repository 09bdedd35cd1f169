"""Mask R-CNN's branch (1703.06870, Figure 4)."""

from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.layers import ConvNorm
from resdet.detection.heads.config import MaskConfig


class MaskHead(nn.Module):
    """3×3 layers, an upsampling one, a mask for each class (Figure 4, right); after conv5_x without 3×3 layers."""

    def __init__(self, channels: int, convs: int, width: int, norm: str | None, classes: int):
        super().__init__()
        widths = [channels] + [width] * convs
        self.convs = nn.ModuleList(ConvNorm(a, b, 3, norm=norm) for a, b in zip(widths, widths[1:]))
        self.upsample = nn.ConvTranspose2d(widths[-1], width, 2, stride=2)
        self.masks = nn.Conv2d(width, classes, 1)
        for layer in (*(unit.conv for unit in self.convs), self.upsample):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        # Small, as with the other last layers: a mask begins as a half everywhere, however large the features are.
        nn.init.normal_(self.masks.weight, std=0.001)
        nn.init.zeros_(self.masks.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Region features [R, C, s, s] -> logits [R, classes, 2s, 2s]."""
        for unit in self.convs:
            x = F.relu(unit(x), inplace=True)
        return self.masks(F.relu(self.upsample(x), inplace=True))


def conv_mask_head(config: MaskConfig, channels: int, classes: int) -> MaskHead:
    """The head by its config."""
    return MaskHead(channels, config.convs, config.width, config.norm, classes)


def mask_of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """[R, C, m, m] and labels [R] -> [R, m, m]."""
    return logits.gather(1, labels[:, None, None, None].expand(-1, 1, *logits.shape[2:]))[:, 0]
