"""resdet: Deep Residual Learning for Image Recognition, whole, in PyTorch.

Nothing heavy is imported before it is used: `import resdet` alone does not import torch.
"""

from resdet._lazy import attach
from resdet.errors import Error as Error

__version__ = "0.1.0"

__getattr__, __dir__ = attach(
    __name__,
    {
        "backbones": "backbones",
        "config": "config",
        "data": "data",
        "classification": "classification",
        "detection": "detection",
        "localization": "localization",
        "necks": "necks",
        "results": "results",
        "tasks": "tasks",
        "weights": "weights",
        "build": "hub",
        "load": "hub",
        "open_data": "hub",
        "Result": "results",
    },
)
