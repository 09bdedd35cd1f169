"""Keras-applications' ResNet-50, 101 and 152: the authors' own nets in another dress.

Names `res4b_branch2a/kernel` (`res4b7_branch2a` in the deeper nets), kernels [H, W, in, out], stride in the first 1×1,
BGR input minus a mean colour, batch norm with an epsilon of 0.001, and convolutions with biases.
"""

import re
from typing import Mapping

import torch
from torch import Tensor

MEAN_RGB = (123.68, 116.779, 103.939)
THEIR_EPSILON, OUR_EPSILON = 1e-3, 1e-5
UNITS = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}
NORM_KEYS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def is_keras(state: Mapping[str, Tensor]) -> bool:
    return "res2a_branch2a/kernel" in state


def unit_of(layer: str) -> str:
    """`res4b7_branch2a` or `bn4b7_branch2a` -> `conv4_x.7.conv1`; `conv1` and `bn_conv1` -> `conv1`."""
    if layer in ("conv1", "bn_conv1"):
        return "conv1"
    stage, letter, number, branch = re.fullmatch(r"(?:res|bn)([2-5])([a-z])(\d*)_(\w+)", layer).groups()
    block = int(number) if number else ord(letter) - ord("a")
    return f"conv{stage}_x.{block}.{UNITS[branch]}"


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names, layouts, epsilon and RGB order, with the mean that belongs to the weights; exact up to rounding."""
    ours = {}
    for name, tensor in state.items():
        layer, key = name.split("/")
        tensor = tensor.float()
        if layer == "fc1000":
            ours[f"fc.{'weight' if key == 'kernel' else 'bias'}"] = (
                tensor.t().contiguous() if key == "kernel" else tensor
            )
        elif key == "kernel":
            ours[f"{unit_of(layer)}.conv.weight"] = tensor.permute(3, 2, 0, 1).contiguous()
        elif key in NORM_KEYS:
            ours[f"{unit_of(layer)}.norm.{NORM_KEYS[key]}"] = tensor
    for name, tensor in state.items():
        layer, key = name.split("/")
        if key == "bias" and layer != "fc1000":  # a bias before a norm is a shift of the norm's mean
            ours[f"{unit_of(layer)}.norm.running_mean"] -= tensor.float()
    for name in ours:
        if name.endswith("running_var"):
            ours[name] = ours[name] + (THEIR_EPSILON - OUR_EPSILON)
    ours["conv1.conv.weight"] = ours["conv1.conv.weight"].flip(1)  # BGR to RGB
    ours["normalise.mean"] = torch.tensor(MEAN_RGB)[:, None, None]
    ours["normalise.std"] = torch.ones(3, 1, 1)
    return ours
