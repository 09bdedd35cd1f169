"""Weights in and out: any known layout is recognized by its content, and nothing is skipped in silence."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {"load": "loading", "save": "saving", "read": "reading", "recognize": "layouts.recognition", "locate": "zoo"},
)
