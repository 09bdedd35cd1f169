"""ResNet-50 of three libraries with the same weights, and the ways in which each of them is run."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from resdet.backbones import registry
from resdet.classification.model import Classifier
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights import loading

NOT_INSTALLED = "not installed"


class Variant(NamedTuple):
    """Eager or compiled, in float32 or under bfloat16 autocast; always channels_last, which suits every side best."""

    bf16: bool
    compile: bool

    def __str__(self) -> str:
        return f"{'compiled' if self.compile else 'eager'}, channels_last, {'bf16' if self.bf16 else 'fp32'}"

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def prepare(self, module: nn.Module) -> nn.Module:
        """A copy of the module to be run so. It compiles whole or not at all: no silent return to eager."""
        module = copy.deepcopy(module).to(memory_format=torch.channels_last)
        return torch.compile(module, fullgraph=True, dynamic=False) if self.compile else module


EAGER = (Variant(bf16=False, compile=False), Variant(bf16=True, compile=False))
COMPILED = (Variant(bf16=False, compile=True), Variant(bf16=True, compile=True))


def resnet50s() -> dict[str, nn.Module | str]:
    """torchvision's, timm's and ours with the same random weights, or why there is none."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    theirs, ours = resnet50(), registry.create("resnet50")
    loading.load(ours, theirs.state_dict())
    return {"torchvision": theirs, "timm": timm_resnet50(theirs.state_dict()), "resdet": ours}


def timm_resnet50(state: dict[str, Tensor]) -> nn.Module | str:
    try:
        import timm
    except ImportError:
        return NOT_INSTALLED
    net = timm.create_model("resnet50", pretrained=False)
    net.load_state_dict(state)
    return net


def each(nets: dict[str, nn.Module | str], make: Callable[[nn.Module], Any]) -> dict[str, Any]:
    """What is made of every net, where there is one."""
    return {name: net if isinstance(net, str) else make(net) for name, net in nets.items()}


def classifier(net: nn.Module, size: int) -> Classifier:
    """Our whole model around a copy of a backbone: it takes pixels, and normalizes them."""
    classes = [str(label) for label in range(net.fc.out_features)]
    return Classifier(copy.deepcopy(net), classes, normalizer(), size=size, short=size)


def normalizer() -> Normalize:
    return Normalize(IMAGENET_MEAN, IMAGENET_STD)


def pixels(batch: int, size: int) -> Tensor:
    """A batch as our loader and `predict` hand it over: uint8 [batch, 3, size, size], channels last in memory."""
    images = torch.randint(256, (batch, size, size, 3), generator=torch.Generator().manual_seed(0))
    return images.to(torch.uint8).permute(0, 3, 1, 2)
