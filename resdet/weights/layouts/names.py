"""Tensor names of torchvision's and timm's classifiers, in both directions, and the properties of a net that they
imply.

resdet's names follow the paper: `conv4_x.5.conv2.conv.weight`, `conv4_x.5.conv2.norm.running_mean`, `fc.bias`.
torchvision's and timm's ResNets share one layout (`layer3.5.conv2.weight`, `layer3.5.bn2.running_mean`).
"""

import re
from collections.abc import Iterable

from resdet.backbones.resnet import BLOCKS
from resdet.backbones.vgg import CONVOLUTIONS
from resdet.errors import WeightsError

STAGE_TO_LAYER = {"conv2_x": "layer1", "conv3_x": "layer2", "conv4_x": "layer3", "conv5_x": "layer4"}
LAYER_TO_STAGE = {layer: stage for stage, layer in STAGE_TO_LAYER.items()}
VGG_LINEAR = {"fc6": "classifier.0", "fc7": "classifier.3", "fc": "classifier.6"}


def resnet_name(blocks: tuple[int, ...], bottleneck: bool, origin: str) -> str:
    """Returns the name of the ResNet with these numbers of blocks in conv2_x to conv5_x."""
    for depth, counts in BLOCKS.items():
        if counts == blocks and bottleneck == (depth >= 50):
            return f"resnet{depth}"
    raise WeightsError(f"{origin}: a ResNet of {blocks} blocks is not supported: give ResNet-18, 34, 50, 101 or 152.")


def count(names: Iterable[str], pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in names)


def resnet_to_torchvision(name: str) -> str:
    """Converts `conv4_x.5.conv2.norm.bias` to `layer3.5.bn2.bias`; keeps names outside the backbone's units."""
    head, *rest = name.split(".")
    if head in STAGE_TO_LAYER:
        block, unit, kind, last = rest
        if unit == "shortcut":
            return f"{STAGE_TO_LAYER[head]}.{block}.downsample.{0 if kind == 'conv' else 1}.{last}"
        inner = unit if kind == "conv" else unit.replace("conv", "bn")
        return f"{STAGE_TO_LAYER[head]}.{block}.{inner}.{last}"
    if head == "conv1":
        return f"{'conv1' if rest[0] == 'conv' else 'bn1'}.{rest[1]}"
    return name


def resnet_from_torchvision(name: str) -> str:
    """Converts `layer3.5.bn2.bias` to `conv4_x.5.conv2.norm.bias`; keeps unknown names."""
    if match := re.fullmatch(r"(layer[1-4])\.(\d+)\.downsample\.([01])\.(\w+)", name):
        layer, block, index, last = match.groups()
        return f"{LAYER_TO_STAGE[layer]}.{block}.shortcut.{'conv' if index == '0' else 'norm'}.{last}"
    if match := re.fullmatch(r"(?:(layer[1-4])\.(\d+)\.)?(conv|bn)([123])\.(\w+)", name):
        layer, block, kind, number, last = match.groups()
        unit = f"conv{number}.{'conv' if kind == 'conv' else 'norm'}.{last}"
        return f"{LAYER_TO_STAGE[layer]}.{block}.{unit}" if layer else unit
    return name


def vgg_names(depth: int, batch_norm: bool) -> dict[str, str]:
    """Maps modules to torchvision's: `conv3_x.1.conv` -> `features.12`; resdet's later stages start with a pool."""
    names, index = dict(VGG_LINEAR), 0
    for stage, count in enumerate(CONVOLUTIONS[depth], start=1):
        for position in range(count):
            unit = f"conv{stage}_x.{position + (stage > 1)}"
            names[f"{unit}.conv"] = f"features.{index}"
            if batch_norm:
                names[f"{unit}.norm"] = f"features.{index + 1}"
            index += 3 if batch_norm else 2
        index += 1
    return names


def rename_modules(state: dict, names: dict[str, str]) -> dict:
    """Renames the modules of a state dict; keeps the last part of each name."""
    renamed = {}
    for name, tensor in state.items():
        module, _, last = name.rpartition(".")
        renamed[f"{names.get(module, module)}.{last}" if module else name] = tensor
    return renamed
