"""Data code shared by all tasks: formats, loaders, samplers, array caches."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.data.config import DataConfig as DataConfig
    from resdet.data.config import formats as formats
    from resdet.data.config import register as register

__getattr__, __dir__ = attach(__name__, {"formats": "config", "register": "config", "DataConfig": "config"})
