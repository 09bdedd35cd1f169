"""The trainer of all tasks. It handles losses, batches and evaluations, and is independent of the model."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.engine.callbacks import Callback as Callback
    from resdet.engine.callbacks import register_callback as register_callback
    from resdet.engine.loggers.registry import Logger as Logger
    from resdet.engine.loggers.registry import register_logger as register_logger
    from resdet.engine.run import Run as Run

__getattr__, __dir__ = attach(
    __name__,
    {
        "Callback": "callbacks",
        "Logger": "loggers.registry",
        "Run": "run",
        "register_callback": "callbacks",
        "register_logger": "loggers.registry",
    },
)
