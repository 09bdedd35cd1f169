"""Base class of necks."""

from torch import Tensor, nn


class Neck(nn.Module):
    """Computes maps of equal width for the RPN and the RoI heads from the backbone's maps."""

    strides: dict[str, int]  # strides of the output maps, finest first
    channels: dict[str, int]
    roi_levels: list[str]  # output maps for RoI pooling; the RPN uses all

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps {"c2": [B, C, H/4, W/4], …} to {"p2": [B, width, H/4, W/4], …}."""
        raise NotImplementedError
