"""Config dataclasses and names of the backbone families; imports no torch, so that config errors appear quickly."""

import re
from dataclasses import dataclass, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from resdet.errors import ConfigError, hint, spelled
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
    """The key common to all families; the name selects the other keys."""

    # net: a name of `resdet nets`, cifar_resnetN or cifar_plainN with N = 6n+2 layers, or timm/NAME; selects the keys
    # below
    name: str = "resnet50"

    def __post_init__(self) -> None:
        """Validates Literal fields, since `create` also takes options from Python."""
        for key, kind in get_type_hints(type(self)).items():
            allowed, value = choices(kind), getattr(self, key)
            if allowed and value not in allowed:
                raise ConfigError(
                    f"{self.name}: {key} is {spelled(value)}; choose one of {', '.join(map(str, allowed))}."
                )

    def build(self, num_classes: int) -> "Backbone":
        """Builds the net with random weights, without a classifier if `num_classes` is 0."""
        raise NotImplementedError

    def for_checkpoint(self) -> "BackboneConfig":
        """Returns the config for a checkpoint's net, which downloads no pretrained weights."""
        return self


def choices(hint: Any) -> tuple[Any, ...]:
    """Returns the values of a Literal or an optional Literal; empty for other types."""
    if get_origin(hint) in (Union, UnionType):
        inner = [allowed for part in get_args(hint) for allowed in choices(part)]
        return (*inner, None) if inner else ()
    return get_args(hint) if get_origin(hint) is Literal else ()


@dataclass
class ResNetConfig(BackboneConfig):
    """Residual nets (Table 1). Defaults are those of torchvision; the paper's nets have `stride_in: 1x1`."""

    # section 3.3. A: zero-padded identities; B: projections where dimensions increase; C: projections everywhere
    shortcut: Literal["A", "B", "C"] = "B"
    # convolution of the bottleneck with the stride: 1x1 in the paper, 3x3 in "v1.5"
    stride_in: Literal["1x1", "3x3"] = "3x3"
    # bn: batch norm; frozen: constant statistics and weights; sync: over all processes; gn: 32 groups
    norm: Norm = "bn"
    zero_init: bool = False  # initialize the last norm of each block with zero: blocks start as identities

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.resnet import resnet

        return resnet(self, IMAGENET_RESNETS[self.name], num_classes)


@dataclass
class PlainConfig(BackboneConfig):
    """Plain nets (Table 2): the layers of residual nets without shortcuts."""

    # bn: batch norm; frozen: constant statistics and weights; sync: over all processes; gn: 32 groups
    norm: Norm = "bn"

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.resnet import plain

        return plain(self, IMAGENET_PLAIN[self.name], num_classes)


@dataclass
class CifarNetConfig(BackboneConfig):
    """CIFAR nets (section 4.2): 6n+2 layers, shortcuts of option A."""

    # bn: batch norm; frozen: constant statistics and weights; sync: over all processes; gn: 32 groups
    norm: Norm = "bn"
    zero_init: bool = False  # initialize the last norm of each block with zero: blocks start as identities

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.cifar import cifar_net

        return cifar_net(self, num_classes)


@dataclass
class VGGConfig(BackboneConfig):
    """VGG-16 and VGG-19, the baselines of Tables 3 to 8; `norm: null` is the original net."""

    # null: none, as in the original net; bn: batch norm; frozen: constant statistics and weights; sync: over all
    # processes; gn: 32 groups
    norm: Norm | None = None
    dropout: float = 0.5  # probability of dropout after fc6 and fc7

    def build(self, num_classes: int) -> "Backbone":
        from resdet.backbones.vgg import vgg

        return vgg(self, VGGS[self.name], num_classes)


@dataclass
class TimmConfig(BackboneConfig):
    """`timm/<name>`: any net of the timm library, which must be installed."""

    pretrained: bool = False  # start training from timm's weights

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
    """Returns the names of registered nets; CIFAR nets of any depth 6n+2 and `timm/<name>` are also available."""
    return list(backbones)


def family(name: str) -> type[BackboneConfig]:
    """Returns the config class of a net; raises ConfigError for an unknown name."""
    if name in backbones:
        return backbones[name]
    if name.startswith("timm/"):
        return TimmConfig
    if CIFAR_NAME.fullmatch(name):
        cifar_blocks(name)
        return CifarNetConfig
    otherwise = "`resdet nets` lists them, and timm/<name> is any net of timm."
    cifar = f"cifar_{name}"  # the paper's name resnet20 is closer to resnet50
    remedy = f"did you mean {cifar}?" if cifar in names() else hint(name, names(), otherwise)
    raise ConfigError(f"There is no backbone named {name!r}: {remedy}")


def cifar_blocks(name: str) -> tuple[bool, int]:
    """Returns whether a CIFAR net is residual, and n, its blocks per stage, for 6n+2 layers (section 4.2)."""
    match = CIFAR_NAME.fullmatch(name)
    assert match is not None
    kind, depth = match.groups()
    n, rest = divmod(int(depth) - 2, 6)
    if rest or n < 1:
        raise ConfigError(
            f"{name}: a CIFAR net has 6n+2 layers, and {depth} is not of this form: use 20, 32, 44, 56, 110, 1202, …"
        )
    return kind == "resnet", n
