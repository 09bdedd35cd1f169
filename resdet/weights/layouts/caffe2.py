"""Caffe2 names, as in MSRA's R-50.pkl and R-101.pkl and the GroupNorm nets of Detectron's zoo.

`res4_22_branch2b_w`, `res4_22_branch2b_bn_gamma`; pixels are BGR minus a mean, not divided. Detectors of Detectron, the
predecessor of detectron2, are refused: its boxes and anchors are one pixel larger.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.weights.layouts import detectron2

UNITS = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}
KEYS = {
    "w": "weight",
    "b": "bias",
    "bn_s": "norm.weight",
    "bn_gamma": "norm.weight",
    "bn_b": "norm.bias",
    "bn_beta": "norm.bias",
    "bn_rm": "norm.running_mean",
    "bn_running_mean": "norm.running_mean",
    "bn_riv": "norm.running_var",
    "bn_running_var": "norm.running_var",
    "gn_s": "norm.weight",
    "gn_b": "norm.bias",
}
UNUSED_BIAS = "conv1_b"  # zeros in MSRA's ResNet-50; detectron2 ignores it as well
EPSILON = 1e-5  # subtracted from a variance of one, which makes the norm the identity


def is_backbone(state: Mapping[str, Tensor]) -> bool:
    return "conv1_w" in state and "res2_0_branch2a_w" in state


def settings_of_backbone(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """Returns the `model.backbone` section of a config that fits the weights."""
    if any(name.startswith(("conv_rpn", "rpn_", "fpn_", "bbox_pred", "cls_score")) for name in state):
        raise WeightsError(
            f"{origin} is a detector of Detectron, which defines boxes differently: give one of detectron2's zoo."
        )
    return detectron2.settings_of_backbone(to_detectron2_names(state), origin)


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of the backbone, its classifier if present, and the RGB pixel statistics."""
    return detectron2.backbone_to_our_names(to_detectron2_names(state))


def to_detectron2_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adds MSRA's pixel statistics and removes tensors of the optimizer."""
    kept = [name for name in state if name != UNUSED_BIAS and name != "lr" and not name.endswith("_momentum")]
    result = {detectron2_name(name): state[name] for name in kept}
    if "conv1_gn_s" not in state:
        result = identity_statistics(result) | result
    mean, std = torch.tensor(detectron2.MSRA_MEAN), torch.ones(3)
    return {**result, "pixel_mean": mean, "pixel_std": std}


def identity_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns running mean and variance for batch norms stored as scale and shift only."""
    result = {}
    for name, tensor in state.items():
        if name.endswith("norm.weight"):
            result[name.replace("weight", "running_mean")] = torch.zeros_like(tensor)
            result[name.replace("weight", "running_var")] = torch.ones_like(tensor) - EPSILON
    return result


def detectron2_name(name: str) -> str:
    """Converts `res4_22_branch2b_w` to `res4.22.conv2.weight`; keeps unknown names."""
    if match := re.fullmatch(r"(?:fc1000|pred)_([wb])", name):
        return f"linear.{KEYS[match[1]]}"
    match = re.fullmatch(r"(?:res_)?conv1_(\w+)", name)
    if match and match[1] in KEYS:
        return f"stem.conv1.{KEYS[match[1]]}"
    match = re.fullmatch(r"res(\d)_(\d+)_(branch\d[abc]?)_(\w+)", name)
    if match and match[3] in UNITS and match[4] in KEYS:
        return f"res{match[1]}.{match[2]}.{UNITS[match[3]]}.{KEYS[match[4]]}"
    return name
