"""Config of necks: `model.neck.name` selects the registered dataclass of the other keys; imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resdet.backbones.config import Norm
from resdet.errors import at_least
from resdet.registry import Registry

if TYPE_CHECKING:
    from resdet.backbones.layers import Backbone
    from resdet.necks.base import Neck


@dataclass
class NeckConfig:
    """The key common to all necks."""

    name: str = "fpn"  # neck: fpn or a registered one; selects the keys below

    def build(self, backbone: "Backbone") -> "Neck":
        """Builds the neck on a backbone with these `strides` and `channels`."""
        raise NotImplementedError


@dataclass
class FPNConfig(NeckConfig):
    """Feature pyramid network."""

    width: int = 256  # channels of each level
    norm: Norm | None = None  # norm of the convolutions; values as for `model.backbone.norm`; null: none

    def __post_init__(self) -> None:
        at_least(1, self, "model.neck", "width")

    def build(self, backbone: "Backbone") -> "Neck":
        from resdet.necks.fpn import FINEST_STRIDE, FPN

        return FPN(backbone, self.width, self.norm, finest=FINEST_STRIDE)


necks: Registry[type[NeckConfig]] = Registry("neck", "model.neck.name", {"fpn": FPNConfig})
register = necks.register
