"""Necks: feature pyramids on the stages of a backbone."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {"FPN": "fpn", "FPNConfig": "config", "Neck": "base", "NeckConfig": "config", "register": "config"},
)
