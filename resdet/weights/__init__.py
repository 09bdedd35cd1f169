"""Loading and saving of weights: layouts are recognized by content, and mismatches are reported by name."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {"load": "loading", "save": "saving", "read": "reading", "recognize": "layouts.recognition", "locate": "zoo"},
)
