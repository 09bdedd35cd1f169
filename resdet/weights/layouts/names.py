"""Tensor names of torchvision's and timm's classifiers, in both directions.

resdet's names follow the paper: `conv4_x.5.conv2.conv.weight`, `conv4_x.5.conv2.norm.running_mean`, `fc.bias`.
torchvision's and timm's ResNets share one layout (`layer3.5.conv2.weight`, `layer3.5.bn2.running_mean`).
"""

import re

STAGE_TO_LAYER = {"conv2_x": "layer1", "conv3_x": "layer2", "conv4_x": "layer3", "conv5_x": "layer4"}
LAYER_TO_STAGE = {layer: stage for stage, layer in STAGE_TO_LAYER.items()}
VGG_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VGG_LINEAR = {"fc6": "classifier.0", "fc7": "classifier.3", "fc": "classifier.6"}


def resnet_to_torchvision(name: str) -> str:
    """`conv4_x.5.conv2.norm.bias` -> `layer3.5.bn2.bias`; names outside the backbone's units are unchanged."""
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
    """`layer3.5.bn2.bias` -> `conv4_x.5.conv2.norm.bias`; unknown names are unchanged."""
    if match := re.fullmatch(r"(layer[1-4])\.(\d+)\.downsample\.([01])\.(\w+)", name):
        layer, block, index, last = match.groups()
        return f"{LAYER_TO_STAGE[layer]}.{block}.shortcut.{'conv' if index == '0' else 'norm'}.{last}"
    if match := re.fullmatch(r"(?:(layer[1-4])\.(\d+)\.)?(conv|bn)([123])\.(\w+)", name):
        layer, block, kind, number, last = match.groups()
        unit = f"conv{number}.{'conv' if kind == 'conv' else 'norm'}.{last}"
        return f"{LAYER_TO_STAGE[layer]}.{block}.{unit}" if layer else unit
    return name


def vgg_names(depth: int, batch_norm: bool) -> dict[str, str]:
    """Module -> torchvision's module: `conv3_x.1.conv` -> `features.12`; resdet's later stages start with a pool."""
    names, index = dict(VGG_LINEAR), 0
    for stage, count in enumerate(VGG_CONVOLUTIONS[depth], start=1):
        for position in range(count):
            unit = f"conv{stage}_x.{position + (stage > 1)}"
            names[f"{unit}.conv"] = f"features.{index}"
            if batch_norm:
                names[f"{unit}.norm"] = f"features.{index + 1}"
            index += 3 if batch_norm else 2
        index += 1
    return names


def rename_modules(state: dict, names: dict[str, str]) -> dict:
    """Renames the modules of a state dict; the last part of each name is unchanged."""
    renamed = {}
    for name, tensor in state.items():
        module, _, last = name.rpartition(".")
        renamed[f"{names.get(module, module)}.{last}" if module else name] = tensor
    return renamed
