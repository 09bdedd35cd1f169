"""Builds backbones by name, or describes them without building."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from resdet.backbones import cifar, resnet, vgg
from resdet.backbones.config import (
    CIFAR_NAME,
    IMAGENET_PLAIN,
    IMAGENET_RESNETS,
    VGGS,
    backbones,
    cifar_blocks,
    family,
)
from resdet.backbones.layers import Backbone
from resdet.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """Properties of a net: depth, side of training images, strides and channels of `features`."""

    name: str
    depth: int
    image_size: int
    strides: dict[str, int]
    channels: dict[str, int]


def create(name: str, num_classes: int = 1000, **options: Any) -> Backbone:
    """Builds a net by name, with random weights; `num_classes=0` omits the classifier and outputs pooled features
    [B, C].

    Options are the fields of the net's config (`shortcut="C"`, `stride_in="1x1"`, `norm="frozen"`, …).
    """
    config_class = family(name)
    known = config_class.__dataclass_fields__
    for key in options:
        if key not in known:
            raise ConfigError(
                f"{name} has no option {key!r}: choose one of {', '.join(k for k in known if k != 'name')}."
            )
    return config_class(name=name, **options).build(num_classes)


def entry(name: str) -> Entry:
    """Returns properties of a registered net; timm nets have `.strides` and `.channels` once they are built."""
    if name in IMAGENET_RESNETS or name in IMAGENET_PLAIN:
        depth = (IMAGENET_RESNETS | IMAGENET_PLAIN)[name]
        expansion = 1 if depth < 50 else resnet.Bottleneck.expansion
        channels = dict(zip(resnet.STRIDES, (width * expansion for width in resnet.WIDTHS)))
        return Entry(name, depth, 224, resnet.STRIDES, channels)
    if name in VGGS:
        return Entry(name, VGGS[name], 224, vgg.VGG.strides, vgg.VGG.channels)
    if CIFAR_NAME.fullmatch(name):
        _, n = cifar_blocks(name)
        return Entry(name, 6 * n + 2, 32, cifar.CifarNet.strides, cifar.CifarNet.channels)
    if name in backbones:
        return entry_of(name)
    family(name)
    raise ConfigError(f"{name} belongs to timm: build it with backbones.create and read its .strides and .channels.")


def entry_of(name: str) -> Entry:
    """Returns properties of a net registered by a user's module, read from the built net."""
    with torch.device("meta"):
        net = create(name, num_classes=1000)
    depth = sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in net.modules())
    return Entry(name, depth, 224, dict(net.strides), dict(net.channels))
