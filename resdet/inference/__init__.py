"""What a trained detector says of pictures: results, and how they are shown."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(__name__, {"Result": "result", "drawing": "drawing"})
