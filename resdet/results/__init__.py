"""Detections of one image, and their drawing."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(__name__, {"Result": "result", "drawing": "drawing"})
