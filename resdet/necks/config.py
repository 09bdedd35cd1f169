"""Config of necks: `model.neck.name` chooses a registered one, whose dataclass reads the other keys; free of torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resdet.backbones.config import Norm
from resdet.registry import Registry

if TYPE_CHECKING:
    from resdet.backbones.layers import Backbone
    from resdet.necks.base import Neck


@dataclass
class NeckConfig:
    """The key that every neck shares."""

    name: str = "fpn"

    def build(self, backbone: "Backbone") -> "Neck":
        """The neck over a backbone's stages, by its `strides` and `channels`."""
        raise NotImplementedError


@dataclass
class FPNConfig(NeckConfig):
    """Feature pyramid network."""

    width: int = 256
    norm: Norm | None = None

    def build(self, backbone: "Backbone") -> "Neck":
        from resdet.necks.fpn import FINEST_STRIDE, FPN

        return FPN(backbone, self.width, self.norm, finest=FINEST_STRIDE)


necks: Registry[type[NeckConfig]] = Registry("neck", "model.neck.name", {"fpn": FPNConfig})
register = necks.register
