"""torchvision's Faster, Mask and Keypoint R-CNN with FPN: tensor names, order of classes and implied settings.

Converts in both directions; `refuse_unsupported` lists settings that torchvision's detectors lack.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError, spelled
from resdet.weights import coco_keypoints
from resdet.weights.layouts.names import count, rename_modules, resnet_from_torchvision, resnet_to_torchvision
from resdet.weights.layouts.torchvision_classifiers import imagenet_statistics, refuse_other_resnets, resnet_name

MARK = "rpn.head.cls_logits.weight"  # unique to this layout
BODY = "backbone.body."
FROZEN_EPSILON = 1e-5

LEVELS = {f"c{level + 2}": level for level in range(4)}  # feature map -> torchvision's pyramid level
SINGLE = {  # torchvision's module -> resdet's
    "rpn.head.cls_logits": "rpn.objectness",
    "rpn.head.bbox_pred": "rpn.deltas",
    "roi_heads.box_predictor.cls_score": "roi_heads.stages.0.predictor.scores",
    "roi_heads.box_predictor.bbox_pred": "roi_heads.stages.0.predictor.boxes",
    "roi_heads.mask_predictor.conv5_mask": "roi_heads.mask_head.upsample",
    "roi_heads.mask_predictor.mask_fcn_logits": "roi_heads.mask_head.masks",
    "roi_heads.keypoint_predictor.kps_score_lowres": "roi_heads.keypoint_head.heatmaps",
}
Replacement = str | Callable[[re.Match[str]], str]
NAMES_OF_2019: dict[str, Replacement] = {  # module in the files published in 2019 -> current module
    r"backbone\.fpn\.(inner|layer)_blocks\.(\d)": r"backbone.fpn.\1_blocks.\2.0",
    r"rpn\.head\.conv": "rpn.head.conv.0.0",
    r"roi_heads\.mask_head\.mask_fcn(\d)": lambda match: f"roi_heads.mask_head.{int(match[1]) - 1}.0",
}


def is_detector(state: Mapping[str, Tensor]) -> bool:
    return MARK in state


def modules(convs: int, linears: int, mask_convs: int, keypoint_convs: int, rpn_convs: int) -> dict[str, str]:
    """Maps torchvision's modules outside the body to resdet's. Its box head with convolutions and its keypoint head are
    numbered sequences that include the activations."""
    result = dict(SINGLE)
    for stage, level in LEVELS.items():
        for source, target in (("inner", "lateral"), ("layer", "output")):
            result |= unit(f"backbone.fpn.{source}_blocks.{level}", f"neck.{target}.{stage}")
    for n in range(convs):
        result |= unit(f"roi_heads.box_head.{n}", f"roi_heads.stages.0.head.convs.{n}")
    for n in range(mask_convs):
        result |= unit(f"roi_heads.mask_head.{n}", f"roi_heads.mask_head.convs.{n}")
    for n in range(keypoint_convs):
        result[f"roi_heads.keypoint_head.{2 * n}"] = f"roi_heads.keypoint_head.convs.{n}.conv"
    for n in range(rpn_convs):
        result[f"rpn.head.conv.{n}.0"] = f"rpn.convs.{n}"
    for n in range(linears):
        source = str(convs + 1 + 2 * n) if convs else f"fc{n + 6}"
        result[f"roi_heads.box_head.{source}"] = f"roi_heads.stages.0.head.linears.{n}"
    return result


def unit(source: str, target: str) -> dict[str, str]:
    return {f"{source}.0": f"{target}.conv", f"{source}.1": f"{target}.norm"}


def modules_of(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Maps the modules of a torchvision detector, from the tensor names of its state dict."""
    return modules(
        convs=count(state, r"roi_heads\.box_head\.\d\.0\.weight"),
        linears=count(state, r"roi_heads\.box_head\.(fc)?\d+\.weight"),
        mask_convs=count(state, r"roi_heads\.mask_head\.\d\.0\.weight"),
        keypoint_convs=count(state, r"roi_heads\.keypoint_head\.\d+\.weight"),
        rpn_convs=count(state, r"rpn\.head\.conv\.\d\.0\.weight"),
    )


def current_name(name: str) -> str:
    module, _, last = name.rpartition(".")
    for former, present in NAMES_OF_2019.items():
        if re.fullmatch(former, module):
            return f"{re.sub(former, present, module)}.{last}"
    return name


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames tensors to resdet's names; keeps unknown names."""
    state = {current_name(name): tensor for name, tensor in state.items()}
    body = {name.removeprefix(BODY): tensor for name, tensor in state.items() if name.startswith(BODY)}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(BODY)}
    converted = {f"backbone.{resnet_from_torchvision(name)}": tensor for name, tensor in body.items()}
    return converted | rename_modules(rest, modules_of(state))


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts names and classes: torchvision's background is class 0 with unused box and mask rows; resdet's is the
    last class and has scores only."""
    converted = our_names(state)
    if "rpn.head.conv.weight" in state:
        converted |= without_epsilon(converted)
    for kind in ("weight", "bias"):
        scores, boxes = f"roi_heads.stages.0.predictor.scores.{kind}", f"roi_heads.stages.0.predictor.boxes.{kind}"
        converted[scores], converted[boxes] = converted[scores].roll(-1, 0), converted[boxes][4:]
        if (masks := f"roi_heads.mask_head.masks.{kind}") in converted:
            converted[masks] = converted[masks][1:]
    return converted | imagenet_statistics()


def without_epsilon(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scales weights of frozen norms, so that norms with epsilon reproduce 2019's norms without epsilon."""
    result = {}
    for name, variance in state.items():
        if name.startswith("backbone.") and name.endswith("running_var"):
            weight = name.replace("running_var", "weight")
            if state[weight].shape != variance.shape:
                raise WeightsError(f"{weight} and {name} have different shapes: download the file again.")
            result[weight] = state[weight] * torch.sqrt(1 + FROZEN_EPSILON / variance)
    return result


def settings(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """Returns the `model` section of a config that fits the weights."""
    converted = our_names(state)
    name = resnet_name({n.removeprefix("backbone."): t for n, t in converted.items()}, origin)
    norm = lambda name: "bn" if f"{name}.running_mean" in converted else None
    stage = "roi_heads.stages.0"
    linears = converted[f"{stage}.head.linears.0.weight"]
    model: dict[str, Any] = {
        "backbone": {"name": name, "norm": norm_of_body(state)},
        "num_classes": len(converted[f"{stage}.predictor.scores.bias"]) - 1,
        "neck": {"width": len(converted["neck.lateral.c2.conv.weight"]), "norm": norm("neck.lateral.c2.norm")},
        "rpn": {
            "anchors": {"style": "torchvision"},
            "convs": count(converted, r"rpn\.convs\.\d\.weight"),
            "post_nms": [2000, 1000],
        },
        "box": {
            "aligned": False,
            "convs": count(converted, rf"{stage}\.head\.convs\.\d\.conv\.weight"),
            "linears": count(converted, rf"{stage}\.head\.linears\.\d\.weight"),
            "width": len(linears),
            "norm": norm(f"{stage}.head.convs.0.norm"),
        },
        "input": {"resize": "torchvision"},
    }
    if model["box"]["convs"]:
        model["box"]["conv_width"] = len(converted[f"{stage}.head.convs.0.conv.weight"])
    if "roi_heads.mask_head.masks.weight" in converted:
        model["mask"] = {
            "aligned": False,
            "convs": count(converted, r"roi_heads\.mask_head\.convs\.\d\.conv\.weight"),
            "width": converted["roi_heads.mask_head.upsample.weight"].shape[1],
            "norm": norm("roi_heads.mask_head.convs.0.norm"),
        }
    if (heatmaps := converted.get("roi_heads.keypoint_head.heatmaps.weight")) is not None:
        model["keypoint"] = {
            "aligned": False,
            "convs": count(converted, r"roi_heads\.keypoint_head\.convs\.\d\.conv\.weight"),
            **keypoint_settings(heatmaps),
        }
    return model


def keypoint_settings(heatmaps: Tensor) -> dict[str, Any]:
    """Returns settings from the deconvolution's weight [width, K, 4, 4]: COCO's names for 17 keypoints, else
    numbers."""
    width, keypoints = heatmaps.shape[:2]
    known = keypoints == len(coco_keypoints.NAMES)
    return {"width": width, "names": None if known else [str(number) for number in range(keypoints)]}


def norm_of_body(state: Mapping[str, Tensor]) -> str:
    """Returns the kind of norm; only trainable batch norms have a step counter."""
    return "bn" if "backbone.body.bn1.num_batches_tracked" in state else "frozen"


# Conversion to torchvision


def from_our_names(model: Any) -> dict[str, Tensor]:
    """Returns a state dict that torchvision's detector of the same shape loads with strict=True
    (weights/snippets_torchvision.py builds it)."""
    refuse_unsupported(model)
    state = {n: t.detach() for n, t in model.state_dict().items() if not n.startswith("normalize.")}
    body = {n.removeprefix("backbone."): t for n, t in state.items() if n.startswith("backbone.")}
    rest = {n: t for n, t in state.items() if not n.startswith("backbone.")}
    for kind in ("weight", "bias"):
        scores, boxes = f"roi_heads.stages.0.predictor.scores.{kind}", f"roi_heads.stages.0.predictor.boxes.{kind}"
        rest[scores], rest[boxes] = rest[scores].roll(1, 0), with_rows_of_background(rest[boxes], 4)
        if (masks := f"roi_heads.mask_head.masks.{kind}") in rest:
            rest[masks] = with_rows_of_background(rest[masks], 1)
    head = model.roi_heads.stages[0].head
    mask, keypoint = (model.roi_heads.branches.get(name) for name in ("mask", "keypoint"))
    mask_convs, keypoint_convs = (len(branch.head.convs) if branch else 0 for branch in (mask, keypoint))
    names = modules(len(head.convs), len(head.linears), mask_convs, keypoint_convs, len(model.rpn.convs))
    renamed = rename_modules(rest, {target: source for source, target in names.items()})
    return {f"{BODY}{resnet_to_torchvision(name)}": tensor for name, tensor in body.items()} | renamed


def with_rows_of_background(tensor: Tensor, count: int) -> Tensor:
    """Prepends rows of zeros, which torchvision ignores."""
    return torch.cat([tensor.new_zeros(count, *tensor.shape[1:]), tensor])


def refuse_unsupported(model: Any) -> None:
    """Refuses settings that torchvision's detectors lack; the error lists all their keys and the supported values."""
    if model.neck is None:
        raise WeightsError("torchvision's detectors have a pyramid: model.features must be fpn.")
    refuse_other_resnets(model.backbone, model.backbone.state_dict(), "torchvision")
    box, mask, rpn, head = (
        model.roi_heads.config,
        model.roi_heads.branches.get("mask"),
        model.rpn,
        model.roi_heads.stages[0].head,
    )
    width = model.neck.channels["p2"]
    checks = {  # key -> value, whether torchvision supports it, supported value
        "box.ious": (list(box.ious), len(box.ious) == 1, "one"),
        "box.class_agnostic": (box.class_agnostic, not box.class_agnostic, False),
        "box.pool": (box.pool, box.pool == "align", "align"),
        "box.aligned": (box.aligned, not box.aligned, False),
        "box.linears": (len(head.linears), len(head.convs) > 0 or len(head.linears) == 2, "2, without box.convs"),
        "box.norm": ("gn", not has_groups(model.roi_heads.stages), "bn or frozen"),
        "neck.norm": ("gn", not has_groups(model.neck), "bn or frozen"),
        "rpn.anchors.style": (rpn.config.anchors.style, rpn.anchors.rounded, "torchvision"),
        "rpn.channels": (rpn.config.channels, rpn.objectness.in_channels == width, width),
        "rpn.min_size": (rpn.config.min_size, rpn.config.min_size == 1e-3, 1e-3),
    }
    if mask is not None:
        checks["mask.aligned"] = (mask.config.aligned, not mask.config.aligned, False)
        checks["mask.norm"] = ("gn", not has_groups(mask.head), "bn or frozen")
    if (keypoint := model.roi_heads.branches.get("keypoint")) is not None:
        checks["keypoint.aligned"] = (keypoint.config.aligned, not keypoint.config.aligned, False)
        checks["mask"] = ("set beside model.keypoint", mask is None, None)
        checks["keypoint.norm"] = (keypoint.config.norm, keypoint.config.norm is None, None)
    unsupported = [
        f"model.{key}={spelled(present)}, only {spelled(expected)}"
        for key, (present, supported, expected) in checks.items()
        if not supported
    ]
    if unsupported:
        raise WeightsError(
            f"torchvision's detectors do not support {'; '.join(unsupported)}: train with these values, or use the "
            "layout safetensors."
        )


def has_groups(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.GroupNorm) for inner in module.modules())
