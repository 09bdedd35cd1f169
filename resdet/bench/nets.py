"""ResNet-50 of three libraries with the same weights, and the variants in which each runs."""

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from resdet.backbones import registry
from resdet.backbones.layers import Backbone
from resdet.classification.model import Classifier
from resdet.fast import accelerate
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.model import Model
from resdet.weights import load_weights

NOT_INSTALLED = "not installed"
M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")
Fast = TypeVar("Fast", bound=Model)


class Variant(NamedTuple):
    """Eager or compiled, in float32 or with bfloat16 autocast; always channels_last, the fastest for every library."""

    bf16: bool
    compile: bool
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{'compiled' if self.compile else 'eager'}, channels_last, {'bf16' if self.bf16 else 'fp32'}"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)

    def prepare(self, module: M) -> M:
        """Returns a copy of the module in this variant; compiles without graph breaks."""
        module = copy.deepcopy(module).to(memory_format=torch.channels_last)
        return cast(M, torch.compile(module, fullgraph=True, dynamic=False)) if self.compile else module

    def on(self, device: str) -> "Variant":
        return self._replace(device=device)


EAGER = (Variant(bf16=False, compile=False), Variant(bf16=True, compile=False))
COMPILED = (Variant(bf16=False, compile=True), Variant(bf16=True, compile=True))


def inference(call: Callable[[], T], variant: Variant = EAGER[0]) -> Callable[[], T]:
    """Wraps the call to run without gradients, with the variant's autocast."""

    @torch.inference_mode()
    def run() -> T:
        with variant.autocast():
            return call()

    return run


def resnet50s() -> dict[str, nn.Module | str]:
    """Returns {library: ResNet-50 with the same random weights, or the reason why it is missing}."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    peer, net = resnet50(), registry.create("resnet50")
    load_weights.load(net, peer.state_dict())
    return {"torchvision": peer, "timm": timm_resnet50(peer.state_dict()), "resdet": net}


def timm_resnet50(state: dict[str, Tensor]) -> nn.Module | str:
    try:
        import timm
    except ImportError:
        return NOT_INSTALLED
    net = timm.create_model("resnet50", pretrained=False)
    net.load_state_dict(state)
    return net


def each(nets: dict[str, nn.Module | str], make: Callable[[nn.Module], Any]) -> dict[str, Any]:
    """Applies `make` to every net; keeps the reasons for missing ones."""
    return {name: net if isinstance(net, str) else make(net) for name, net in nets.items()}


def fast_path(model: Fast, device: str) -> Fast:
    """Returns the model in fast mode; compiles at the first call where the default is after many images."""
    return accelerate(model, compile="auto" if device == "cpu" else True)


def missing(*packages: str) -> bool:
    return any(find_spec(package) is None for package in packages)


def classifier(net: Backbone, size: int) -> Classifier:
    """Wraps a copy of a backbone in resdet's whole model, including pixel normalization."""
    classes = [str(label) for label in range(cast(nn.Linear, net.fc).out_features)]
    return Classifier(copy.deepcopy(net), classes, normalizer(), size=size, short=size)


def normalizer() -> Normalize:
    return Normalize(IMAGENET_MEAN, IMAGENET_STD)


def pixels(batch: int, size: int, device: str = "cpu") -> Tensor:
    """Returns a batch like those of resdet's loader and `predict`: uint8 [batch, 3, size, size], channels_last."""
    images = torch.randint(256, (batch, size, size, 3), generator=torch.Generator().manual_seed(0))
    return images.to(device, torch.uint8).permute(0, 3, 1, 2)
