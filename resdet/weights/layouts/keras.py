"""ResNet-50, 101 and 152 of Keras-applications.

Kernels are [H, W, in, out], the first 1×1 convolution strides, inputs are BGR minus a mean color, and convolutions have
biases. Until 2019, names were the authors' (`res4b_branch2a/kernel`, `res4b7_branch2a` in the deeper nets) and the
epsilon of batch norm was 0.001; since then, names are `conv4_block2_1_conv/kernel` and epsilon is 0.00001001.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.weights.layouts.torchvision_classifiers import resnet_name

MEAN_RGB = (123.68, 116.779, 103.939)
OLD_EPSILON, NEW_EPSILON, OUR_EPSILON = 1e-3, 1.001e-5, 1e-5
OLD_MARK, NEW_MARK = "res2a_branch2a/kernel", "conv2_block1_1_conv/kernel"
STEMS = ("conv1", "bn_conv1", "conv1_conv", "conv1_bn")
CLASSIFIERS = ("fc1000", "predictions", "probs")
UNITS = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}
NEW_UNITS = {"0": "shortcut", "1": "conv1", "2": "conv2", "3": "conv3"}
NORM_KEYS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def is_keras(state: Mapping[str, Tensor]) -> bool:
    return OLD_MARK in state or NEW_MARK in state


def unit_of(layer: str) -> str:
    """`res4b7_branch2a`, `bn4b7_branch2a` and `conv4_block8_1_conv` -> `conv4_x.7.conv1`; `bn_conv1` -> `conv1`."""
    if layer in STEMS:
        return "conv1"
    if match := re.fullmatch(r"(?:res|bn)([2-5])([a-z])(\d*)_(branch1|branch2[abc])", layer):
        stage, letter, number, branch = match.groups()
        block = int(number) if number else ord(letter) - ord("a")
        return f"conv{stage}_x.{block}.{UNITS[branch]}"
    if match := re.fullmatch(r"conv([2-5])_block(\d+)_([0-3])_(?:conv|bn)", layer):
        stage, number, unit = match.groups()
        return f"conv{stage}_x.{int(number) - 1}.{NEW_UNITS[unit]}"
    raise WeightsError(f"{layer} is not a layer of a Keras-applications ResNet: give the weights of such a net.")


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts names, layouts, epsilon and channel order, and adds the pixel mean; exact up to rounding."""
    epsilon = OLD_EPSILON if OLD_MARK in state else NEW_EPSILON
    converted, biases = {}, {}
    for name, tensor in state.items():
        layer, _, key = name.rpartition("/")
        tensor = tensor.float()
        if layer in CLASSIFIERS:
            converted[f"fc.{'weight' if key == 'kernel' else 'bias'}"] = tensor.t().contiguous()
        elif key == "kernel":
            converted[f"{unit_of(layer)}.conv.weight"] = tensor.permute(3, 2, 0, 1).contiguous()
        elif key == "bias":
            biases[f"{unit_of(layer)}.norm.running_mean"] = tensor
        else:
            converted[f"{unit_of(layer)}.norm.{NORM_KEYS.get(key, key)}"] = tensor
    for name in converted:
        if name in biases and biases[name].shape != converted[name].shape:
            raise WeightsError(f"the bias for {name} has another shape: convert the file again.")
        if name in biases:  # a bias before a norm shifts its mean
            converted[name] = converted[name] - biases[name]
        elif name.endswith("running_var"):
            converted[name] = converted[name] + (epsilon - OUR_EPSILON)
        elif name == "conv1.conv.weight":
            converted[name] = converted[name].flip(1)  # BGR to RGB
    converted["normalize.mean"] = torch.tensor(MEAN_RGB)[:, None, None]
    converted["normalize.std"] = torch.ones(3, 1, 1)
    return converted


def settings(state: Mapping[str, Tensor], origin: str) -> dict:
    """Returns the `model` section of a config that fits the weights."""
    converted = to_our_names({name: tensor for name, tensor in state.items() if name.endswith("/kernel")})
    classes = len(converted["fc.weight"]) if "fc.weight" in converted else 0
    return {
        "backbone": {"name": resnet_name(converted, origin), "shortcut": "B", "stride_in": "1x1"},
        "num_classes": classes,
    }
