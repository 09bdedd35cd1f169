"""resdet: the classifiers, detectors and localizers of Deep Residual Learning for Image Recognition, in PyTorch.

Heavy dependencies are imported at first use: `import resdet` alone does not import torch.
"""

from typing import TYPE_CHECKING

from resdet._lazy import attach
from resdet.errors import Error as Error

__version__ = "0.1.0"

if TYPE_CHECKING:
    from resdet import backbones as backbones
    from resdet import classification as classification
    from resdet import config as config
    from resdet import data as data
    from resdet import detection as detection
    from resdet import engine as engine
    from resdet import fast as fast
    from resdet import localization as localization
    from resdet import necks as necks
    from resdet import results as results
    from resdet import tasks as tasks
    from resdet import weights as weights
    from resdet.commands.train import train as train
    from resdet.hub import build as build
    from resdet.hub import load as load
    from resdet.hub import open_data as open_data
    from resdet.model import Model as Model
    from resdet.results import Result as Result

__getattr__, __dir__ = attach(
    __name__,
    {
        "backbones": "backbones",
        "config": "config",
        "data": "data",
        "fast": "fast",
        "classification": "classification",
        "detection": "detection",
        "engine": "engine",
        "localization": "localization",
        "necks": "necks",
        "results": "results",
        "tasks": "tasks",
        "weights": "weights",
        "build": "hub",
        "load": "hub",
        "open_data": "hub",
        "train": "commands.train:train",
        "Model": "model",
        "Result": "results",
    },
)
