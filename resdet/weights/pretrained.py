"""ImageNet weights to start a detector from: a file of the user's, or torchvision's own, fetched from their address."""

from typing import Any
from urllib.parse import urlparse

from torch import nn

from resdet.download import cache_dir, fetch
from resdet.errors import ConfigError
from resdet.peers import torchvision
from resdet.weights import loading


def load(model: nn.Module, wanted: str, backbone: str) -> loading.Report:
    """`wanted` is a path, or `torchvision` for that library's weights of the net named `backbone`."""
    source: Any = fetch_torchvision(backbone) if wanted == "torchvision" else wanted
    return loading.load(model, source, new_classifier=True)


def fetch_torchvision(backbone: str):
    """The file of torchvision's first ImageNet weights, in the cache; its name ends with the start of its SHA-256."""
    models = torchvision().models
    if backbone not in models.list_models():
        raise ConfigError(
            f"model.pretrained is torchvision, which has no {backbone}: name a file of weights, or null to start anew."
        )
    url = models.get_model_weights(backbone).IMAGENET1K_V1.url
    name = urlparse(url).path.rpartition("/")[2]
    return fetch(url, cache_dir() / "weights" / name, sha256=name.rpartition("-")[2].partition(".")[0])
