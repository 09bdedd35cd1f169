"""Necks: feature pyramids on top of a backbone's stages."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.necks.base import Neck as Neck
    from resdet.necks.config import FPNConfig as FPNConfig
    from resdet.necks.config import NeckConfig as NeckConfig
    from resdet.necks.config import register as register
    from resdet.necks.fpn import FPN as FPN

__getattr__, __dir__ = attach(
    __name__,
    {"FPN": "fpn", "FPNConfig": "config", "Neck": "base", "NeckConfig": "config", "register": "config"},
)
