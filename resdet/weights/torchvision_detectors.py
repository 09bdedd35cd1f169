"""torchvision's Faster and Mask R-CNN on a pyramid, v1 and v2: names, order of classes, and the settings they imply."""

import re
from typing import Mapping

import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights.layouts import resnet_from_torchvision

MARK = "rpn.head.cls_logits.weight"  # no other layout has this name

FROZEN_EPSILON = 1e-5

MODULES = [  # torchvision's module -> ours
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?", lambda m: f"neck.lateral.c{int(m[1]) + 2}.conv"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?", lambda m: f"neck.output.c{int(m[1]) + 2}.conv"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1", lambda m: f"neck.lateral.c{int(m[1]) + 2}.norm"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1", lambda m: f"neck.output.c{int(m[1]) + 2}.norm"),
    (r"rpn\.head\.conv\.(\d)\.0", lambda m: f"rpn.convs.{m[1]}"),
    (r"rpn\.head\.conv", lambda m: "rpn.convs.0"),  # here and below: the names of the files of 2019
    (r"roi_heads\.mask_head\.mask_fcn(\d)", lambda m: f"regions.mask_head.convs.{int(m[1]) - 1}.conv"),
    (r"rpn\.head\.cls_logits", lambda m: "rpn.objectness"),
    (r"rpn\.head\.bbox_pred", lambda m: "rpn.deltas"),
    (r"roi_heads\.box_head\.fc([67])", lambda m: f"regions.stages.0.head.linears.{int(m[1]) - 6}"),
    (r"roi_heads\.box_head\.(\d)\.0", lambda m: f"regions.stages.0.head.convs.{m[1]}.conv"),
    (r"roi_heads\.box_head\.(\d)\.1", lambda m: f"regions.stages.0.head.convs.{m[1]}.norm"),
    (r"roi_heads\.box_head\.5", lambda m: "regions.stages.0.head.linears.0"),
    (r"roi_heads\.box_predictor\.cls_score", lambda m: "regions.stages.0.predictor.scores"),
    (r"roi_heads\.box_predictor\.bbox_pred", lambda m: "regions.stages.0.predictor.boxes"),
    (r"roi_heads\.mask_head\.(\d)\.0", lambda m: f"regions.mask_head.convs.{m[1]}.conv"),
    (r"roi_heads\.mask_head\.(\d)\.1", lambda m: f"regions.mask_head.convs.{m[1]}.norm"),
    (r"roi_heads\.mask_predictor\.conv5_mask", lambda m: "regions.mask_head.upsample"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits", lambda m: "regions.mask_head.masks"),
]


def is_detector(state: Mapping[str, Tensor]) -> bool:
    return MARK in state


def our_name(name: str) -> str:
    """Of a tensor; a name that torchvision's detectors do not have stays."""
    if name.startswith("backbone.body."):
        return f"backbone.{resnet_from_torchvision(name.removeprefix('backbone.body.'))}"
    module, _, last = name.rpartition(".")
    for pattern, replace in MODULES:
        if match := re.fullmatch(pattern, module):
            return f"{replace(match)}.{last}"
    return name


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their background is class 0 and has boxes and a mask that nothing reads; ours comes last and has scores alone."""
    ours = {our_name(name): tensor for name, tensor in state.items()}
    if "rpn.head.conv.weight" in state:
        ours |= without_epsilon(ours)
    for kind in ("weight", "bias"):
        scores, boxes = f"regions.stages.0.predictor.scores.{kind}", f"regions.stages.0.predictor.boxes.{kind}"
        ours[scores], ours[boxes] = ours[scores].roll(-1, 0), ours[boxes][4:]
        if (masks := f"regions.mask_head.masks.{kind}") in ours:
            ours[masks] = ours[masks][1:]
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return {**ours, "normalise.mean": mean, "normalise.std": std}


def without_epsilon(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the frozen norms of 2019, which divided by the variance as it was, for ours, which add epsilon."""
    found = {}
    for name, variance in state.items():
        if name.startswith("backbone.") and name.endswith("running_var"):
            weight = name.replace("running_var", "weight")
            found[weight] = state[weight] * torch.sqrt(1 + FROZEN_EPSILON / variance)
    return found


def settings(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """The `model` section of a config that the weights fit."""
    blocks = len({name.split(".")[3] for name in state if name.startswith("backbone.body.layer3.")})
    bottleneck = "backbone.body.layer1.0.conv3.weight" in state
    depth = ({6: 50, 23: 101, 36: 152} if bottleneck else {2: 18, 6: 34}).get(blocks)
    if depth is None:
        raise WeightsError(
            f"{origin}: a detector of torchvision whose backbone is none of ResNet-18 to 152: no such net can be built."
        )
    ours = {our_name(name): tensor for name, tensor in state.items()}
    count = lambda pattern: len([name for name in ours if re.fullmatch(pattern, name)])
    norm = lambda name: "bn" if f"{name}.running_mean" in ours else None
    stage = "regions.stages.0"
    linears = ours[f"{stage}.head.linears.0.weight"]
    model = {
        "backbone": {"name": f"resnet{depth}", "norm": norm_of_body(state)},
        "num_classes": len(ours[f"{stage}.predictor.scores.bias"]) - 1,
        "fpn": {"width": len(ours["neck.lateral.c2.conv.weight"]), "norm": norm("neck.lateral.c2.norm")},
        "rpn": {
            "anchors": {"style": "torchvision"},
            "convs": count(r"rpn\.convs\.\d\.weight"),
            "post_nms": [2000, 1000],
        },
        "box": {
            "aligned": False,
            "convs": count(rf"{stage}\.head\.convs\.\d\.conv\.weight"),
            "linears": count(rf"{stage}\.head\.linears\.\d\.weight"),
            "width": len(linears),
            "norm": norm(f"{stage}.head.convs.0.norm"),
        },
        "input": {"resize": "torchvision"},
    }
    if "regions.mask_head.masks.weight" in ours:
        model["mask"] = {
            "aligned": False,
            "convs": count(r"regions\.mask_head\.convs\.\d\.conv\.weight"),
            "width": ours["regions.mask_head.upsample.weight"].shape[1],
            "norm": norm("regions.mask_head.convs.0.norm"),
        }
    return model


def norm_of_body(state: Mapping[str, Tensor]) -> str:
    """Only norms that learn count their steps."""
    return "bn" if "backbone.body.bn1.num_batches_tracked" in state else "frozen"
