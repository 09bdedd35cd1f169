"""The interface of necks."""

from torch import Tensor, nn


class Neck(nn.Module):
    """From the backbone's maps to the maps that proposals and RoI features are taken from, all of one width."""

    strides: dict[str, int]  # of each output map, finest first
    channels: dict[str, int]
    roi_levels: list[str]  # the maps that RoI features are pooled from; the others serve proposals alone

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c2": [B, C, H/4, W/4], …} -> {"p2": [B, width, H/4, W/4], …}."""
        raise NotImplementedError
