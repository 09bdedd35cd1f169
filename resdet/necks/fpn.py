"""Feature pyramid network (Lin et al., 1612.03144) on the stages of any backbone."""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.layers import Backbone, ConvNorm
from resdet.necks.base import Neck

FINEST_STRIDE = 4  # in detectors, since VGG has finer maps


class FPN(Neck):
    """Maps `{"c2", …, "c5"}` to `{"p2", …, "p5", "p6"}` with `width` channels; p6, with `extra`, is p5 subsampled by 2.

    Uses only `channels` and `strides` of `net`; ignores maps with strides below `finest`.
    """

    def __init__(self, net: Backbone, width: int = 256, norm: str | None = None, extra: bool = True, finest: int = 1):
        super().__init__()
        self.levels = [c for c, stride in net.strides.items() if stride >= finest]
        self.lateral = nn.ModuleDict({c: ConvNorm(net.channels[c], width, 1, norm=norm) for c in self.levels})
        self.output = nn.ModuleDict({c: ConvNorm(width, width, 3, norm=norm) for c in self.levels})
        self.extra = extra
        self.strides = {c.replace("c", "p"): net.strides[c] for c in self.levels}
        self.roi_levels = list(self.strides)
        if extra:
            top = self.levels[-1]
            self.strides[f"p{int(top[1:]) + 1}"] = 2 * net.strides[top]
        self.channels = dict.fromkeys(self.strides, width)
        for unit in cast("Iterable[ConvNorm]", [*self.lateral.values(), *self.output.values()]):
            nn.init.kaiming_uniform_(unit.conv.weight, a=1)
            if unit.conv.bias is not None:
                nn.init.zeros_(unit.conv.bias)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pyramid, above = {}, None
        for c in reversed(self.levels):
            merged = self.lateral[c](features[c])
            if above is not None:
                merged.add_(F.interpolate(above, size=merged.shape[-2:], mode="nearest"))
            pyramid[c.replace("c", "p")] = self.output[c](merged)
            above = merged
        pyramid = dict(reversed(pyramid.items()))
        if self.extra:
            top = pyramid[self.levels[-1].replace("c", "p")]
            pyramid[[*self.strides][-1]] = F.max_pool2d(top, 1, stride=2)
        return pyramid
