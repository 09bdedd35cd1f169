"""Data code shared by all tasks: formats, loaders, samplers, array caches."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(__name__, {"formats": "config", "register": "config", "DataConfig": "config"})
