"""Config dataclasses of the backbone families, and their names; free of torch, so that a config error is quick."""

import difflib
import re
from dataclasses import dataclass, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from resdet.errors import ConfigError
from resdet.registry import Registry

if TYPE_CHECKING:
    from resdet.backbones.layers import Backbone

Norm = Literal["bn", "frozen", "sync", "gn"]

IMAGENET_RESNETS = {name: int(name[6:]) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")}
IMAGENET_PLAIN = {"plain18": 18, "plain34": 34}
VGGS = {"vgg16": 16, "vgg19": 19}
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
CIFAR_NAME = re.compile(r"cifar_(resnet|plain)([0-9]{1,4})")


@dataclass
class BackboneConfig:
    """The key that every family shares; the name decides which of the classes below reads the others."""

    name: str = "resnet50"

    def __post_init__(self):
        """Checks the choices, since `create` takes options from Python too."""
        for key, hint in get_type_hints(type(self)).items():
            allowed = choices(hint)
            if allowed and getattr(self, key) not in allowed:
                raise ConfigError(
                    f"{self.name}: {key} is {getattr(self, key)!r}; choose of {', '.join(map(str, allowed))}."
                )

    def build(self, num_classes: int) -> "Backbone":
        """The net with random weights; without a classifier where `num_classes` is 0."""
        raise NotImplementedError

    def for_checkpoint(self) -> "BackboneConfig":
        """The config of a net whose weights a checkpoint holds."""
        return self


def choices(hint: Any) -> tuple:
    """The values of a Literal, or of an optional one; empty for other types."""
    if get_origin(hint) in (Union, UnionType):
        inner = [allowed for part in get_args(hint) for allowed in choices(part)]
        return (*inner, None) if inner else ()
    return get_args(hint) if get_origin(hint) is Literal else ()


@dataclass
class ResNetConfig(BackboneConfig):
    """Table 1. The defaults are today's torchvision nets; the paper's own are `stride_in: 1x1`."""

    shortcut: Literal["A", "B", "C"] = (
        "B"  # section 3.3: zero-padded identity · projection where dims grow · all projections
    )
    stride_in: Literal["1x1", "3x3"] = "3x3"  # the bottleneck's strided convolution: 1x1 is the paper's, 3x3 is "v1.5"
    norm: Norm = "bn"
    zero_init: bool = False  # the last norm of each block starts at zero, so that blocks start as identities

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.resnet import resnet

        return resnet(self, IMAGENET_RESNETS[self.name], num_classes)


@dataclass
class PlainConfig(BackboneConfig):
    """The plain nets of Table 2: the same layers without shortcuts."""

    norm: Norm = "bn"

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.resnet import plain

        return plain(self, IMAGENET_PLAIN[self.name], num_classes)


@dataclass
class CifarNetConfig(BackboneConfig):
    """Section 4.2: 6n+2 layers, option A in all cases."""

    norm: Norm = "bn"
    zero_init: bool = False

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.cifar import cifar_net

        return cifar_net(self, num_classes)


@dataclass
class VGGConfig(BackboneConfig):
    """VGG-16 and VGG-19, the baselines of Tables 3 to 8. `norm: null` is the original net, without normalization."""

    norm: Norm | None = None
    dropout: float = 0.5

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.vgg import vgg

        return vgg(self, VGGS[self.name], num_classes)


@dataclass
class TimmConfig(BackboneConfig):
    """`timm/<name>`: any net of the timm library, where it is installed."""

    pretrained: bool = False

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.timm import timm_net

        return timm_net(self, num_classes)

    def for_checkpoint(self) -> "TimmConfig":
        return replace(self, pretrained=False)


backbones: Registry[type[BackboneConfig]] = Registry(
    "backbone",
    "model.backbone.name",
    {
        **dict.fromkeys(IMAGENET_RESNETS, ResNetConfig),
        **dict.fromkeys(IMAGENET_PLAIN, PlainConfig),
        **dict.fromkeys(VGGS, VGGConfig),
        **{f"cifar_{kind}{depth}": CifarNetConfig for kind in ("resnet", "plain") for depth in CIFAR_DEPTHS},
    },
)
register = backbones.register


def names() -> list[str]:
    """The registered nets. CIFAR nets of any other depth 6n+2 and `timm/<name>` can be created as well."""
    return list(backbones)


def family(name: str) -> type[BackboneConfig]:
    """The config class that belongs to a net's name."""
    if name in backbones:
        return backbones[name]
    if name.startswith("timm/"):
        return TimmConfig
    if CIFAR_NAME.fullmatch(name):
        cifar_blocks(name)
        return CifarNetConfig
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]}?" if near else "`resdet nets` lists them, and timm/<name> takes any net of timm."
    raise ConfigError(f"There is no backbone named {name!r}: {hint}")


def cifar_blocks(name: str) -> tuple[bool, int]:
    """Whether a CIFAR net is residual, and its n: blocks a stage, from 6n+2 layers (section 4.2)."""
    kind, depth = CIFAR_NAME.fullmatch(name).groups()
    n, rest = divmod(int(depth) - 2, 6)
    if rest or n < 1:
        raise ConfigError(
            f"{name}: a CIFAR net has 6n+2 layers (20, 32, 44, 56, 110, 1202, …), and {depth} is not such a number."
        )
    return kind == "resnet", n
