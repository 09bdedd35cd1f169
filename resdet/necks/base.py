"""The base class of necks."""

from torch import Tensor, nn


class Neck(nn.Module):
    """Computes the maps of the RPN and the RoI heads, of equal width, from the backbone's maps."""

    strides: dict[str, int]  # of the output maps, finest first
    channels: dict[str, int]
    roi_levels: list[str]  # the output maps for RoI pooling; the RPN uses all

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c2": [B, C, H/4, W/4], …} -> {"p2": [B, width, H/4, W/4], …}."""
        raise NotImplementedError
