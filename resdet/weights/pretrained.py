"""ImageNet weights to start a detector from: a file of the user's, or torchvision's own, fetched from their address."""

from pathlib import Path

from torch import nn

from resdet.errors import ConfigError
from resdet.weights import loading, zoo


def load(model: nn.Module, wanted: str, backbone: str) -> loading.Report:
    """`wanted` is a path or a published name, or `torchvision` for that library's weights of the net `backbone`."""
    source: str | Path = fetch_torchvision(backbone) if wanted == "torchvision" else wanted
    return loading.load(model, source, new_classifier=True)


def fetch_torchvision(backbone: str) -> Path:
    """The file of torchvision's first ImageNet weights of a net."""
    if backbone not in zoo.TORCHVISION:
        raise ConfigError(
            f"model.pretrained is torchvision, which has no {backbone}: name a file of weights, or null to start anew."
        )
    return zoo.fetch_torchvision(backbone)
