"""ImageNet weights for initializing a detector: a file, or weights published by torchvision."""

from pathlib import Path

from torch import nn

from resdet.errors import ConfigError
from resdet.weights import load_weights, zoo


def load(model: nn.Module, name: str, backbone: str) -> load_weights.Report:
    """Loads weights by `name`: a path, a published name, or `torchvision` for its weights of the net `backbone`."""
    source: str | Path = fetch_torchvision(backbone) if name == "torchvision" else name
    return load_weights.load(model, source, new_classifier=True)


def fetch_torchvision(backbone: str) -> Path:
    """Downloads the first ImageNet weights that torchvision published for a net."""
    if backbone not in zoo.TORCHVISION:
        raise ConfigError(
            f"model.pretrained is torchvision, which has no {backbone}: give a weights file, or null for random ones."
        )
    return zoo.fetch_torchvision(backbone)
