"""torchvision's Faster and Mask R-CNN on a pyramid, v1 and v2: names, order of classes, and the settings they imply.

Both ways. What its detectors cannot be told to do is refused by the name of the setting (`refuse_what_they_lack`).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights.layouts.names import rename_modules, resnet_from_torchvision, resnet_to_torchvision
from resdet.weights.layouts.torchvision_classifiers import refuse_other_resnets, resnet_name

MARK = "rpn.head.cls_logits.weight"  # no other layout has this name
BODY = "backbone.body."
FROZEN_EPSILON = 1e-5

LEVELS = {f"c{level + 2}": level for level in range(4)}  # our name of a stage -> their number of a pyramid's level
SINGLE = {  # their module -> ours
    "rpn.head.cls_logits": "rpn.objectness",
    "rpn.head.bbox_pred": "rpn.deltas",
    "roi_heads.box_predictor.cls_score": "roi_heads.stages.0.predictor.scores",
    "roi_heads.box_predictor.bbox_pred": "roi_heads.stages.0.predictor.boxes",
    "roi_heads.mask_predictor.conv5_mask": "roi_heads.mask_head.upsample",
    "roi_heads.mask_predictor.mask_fcn_logits": "roi_heads.mask_head.masks",
}
OF_2019 = {  # names of the files published then, which torchvision renames as it loads -> today's
    r"backbone\.fpn\.(inner|layer)_blocks\.(\d)": r"backbone.fpn.\1_blocks.\2.0",
    r"rpn\.head\.conv": "rpn.head.conv.0.0",
    r"roi_heads\.mask_head\.mask_fcn(\d)": lambda match: f"roi_heads.mask_head.{int(match[1]) - 1}.0",
}


def is_detector(state: Mapping[str, Tensor]) -> bool:
    return MARK in state


def modules(convs: int, linears: int, mask_convs: int, rpn_convs: int) -> dict[str, str]:
    """Their modules outside the backbone's body -> ours. Their box head of 3×3 layers is one sequence, numbered on."""
    found = dict(SINGLE)
    for stage, level in LEVELS.items():
        for theirs, ours in (("inner", "lateral"), ("layer", "output")):
            found |= unit(f"backbone.fpn.{theirs}_blocks.{level}", f"neck.{ours}.{stage}")
    for n in range(convs):
        found |= unit(f"roi_heads.box_head.{n}", f"roi_heads.stages.0.head.convs.{n}")
    for n in range(mask_convs):
        found |= unit(f"roi_heads.mask_head.{n}", f"roi_heads.mask_head.convs.{n}")
    for n in range(rpn_convs):
        found[f"rpn.head.conv.{n}.0"] = f"rpn.convs.{n}"
    for n in range(linears):
        theirs = str(convs + 1 + 2 * n) if convs else f"fc{n + 6}"
        found[f"roi_heads.box_head.{theirs}"] = f"roi_heads.stages.0.head.linears.{n}"
    return found


def unit(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.0": f"{ours}.conv", f"{theirs}.1": f"{ours}.norm"}


def modules_of(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Those of a state dict of theirs, by its names."""
    count = lambda pattern: sum(bool(re.fullmatch(pattern, name)) for name in state)
    return modules(
        convs=count(r"roi_heads\.box_head\.\d\.0\.weight"),
        linears=count(r"roi_heads\.box_head\.(fc)?\d+\.weight"),
        mask_convs=count(r"roi_heads\.mask_head\.\d\.0\.weight"),
        rpn_convs=count(r"rpn\.head\.conv\.\d\.0\.weight"),
    )


def todays_name(name: str) -> str:
    module, _, last = name.rpartition(".")
    for former, present in OF_2019.items():
        if re.fullmatch(former, module):
            return f"{re.sub(former, present, module)}.{last}"
    return name


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our names; a name that torchvision's detectors do not have stays."""
    state = {todays_name(name): tensor for name, tensor in state.items()}
    body = {name.removeprefix(BODY): tensor for name, tensor in state.items() if name.startswith(BODY)}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(BODY)}
    ours = {f"backbone.{resnet_from_torchvision(name)}": tensor for name, tensor in body.items()}
    return ours | rename_modules(rest, modules_of(state))


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their background is class 0 and has boxes and a mask that nothing reads; ours comes last and has scores alone."""
    ours = our_names(state)
    if "rpn.head.conv.weight" in state:
        ours |= without_epsilon(ours)
    for kind in ("weight", "bias"):
        scores, boxes = f"roi_heads.stages.0.predictor.scores.{kind}", f"roi_heads.stages.0.predictor.boxes.{kind}"
        ours[scores], ours[boxes] = ours[scores].roll(-1, 0), ours[boxes][4:]
        if (masks := f"roi_heads.mask_head.masks.{kind}") in ours:
            ours[masks] = ours[masks][1:]
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return {**ours, "normalize.mean": mean, "normalize.std": std}


def without_epsilon(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the frozen norms of 2019, which divided by the variance as it was, for ours, which add epsilon."""
    found = {}
    for name, variance in state.items():
        if name.startswith("backbone.") and name.endswith("running_var"):
            weight = name.replace("running_var", "weight")
            if state[weight].shape != variance.shape:
                raise WeightsError(f"{weight} and {name} are of different shapes: the file is damaged.")
            found[weight] = state[weight] * torch.sqrt(1 + FROZEN_EPSILON / variance)
    return found


def settings(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """The `model` section of a config that the weights fit."""
    if any(name.startswith("roi_heads.keypoint") for name in state):
        raise WeightsError(f"{origin}: a Keypoint R-CNN of torchvision, which has a head that none here has.")
    ours = our_names(state)
    name = resnet_name({n.removeprefix("backbone."): t for n, t in ours.items()}, origin)
    count = lambda pattern: len([name for name in ours if re.fullmatch(pattern, name)])
    norm = lambda name: "bn" if f"{name}.running_mean" in ours else None
    stage = "roi_heads.stages.0"
    linears = ours[f"{stage}.head.linears.0.weight"]
    model = {
        "backbone": {"name": name, "norm": norm_of_body(state)},
        "num_classes": len(ours[f"{stage}.predictor.scores.bias"]) - 1,
        "neck": {"width": len(ours["neck.lateral.c2.conv.weight"]), "norm": norm("neck.lateral.c2.norm")},
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
    if model["box"]["convs"]:
        model["box"]["conv_width"] = len(ours[f"{stage}.head.convs.0.conv.weight"])
    if "roi_heads.mask_head.masks.weight" in ours:
        model["mask"] = {
            "aligned": False,
            "convs": count(r"roi_heads\.mask_head\.convs\.\d\.conv\.weight"),
            "width": ours["roi_heads.mask_head.upsample.weight"].shape[1],
            "norm": norm("roi_heads.mask_head.convs.0.norm"),
        }
    return model


def norm_of_body(state: Mapping[str, Tensor]) -> str:
    """Only norms that learn count their steps."""
    return "bn" if "backbone.body.bn1.num_batches_tracked" in state else "frozen"


# The way back


def from_our_names(model: nn.Module) -> dict[str, Tensor]:
    """What torchvision's detector of the same shape (weights/recipes.py) loads with strict=True."""
    refuse_what_they_lack(model)
    state = {n: t.detach() for n, t in model.state_dict().items() if not n.startswith("normalize.")}
    body = {n.removeprefix("backbone."): t for n, t in state.items() if n.startswith("backbone.")}
    rest = {n: t for n, t in state.items() if not n.startswith("backbone.")}
    for kind in ("weight", "bias"):
        scores, boxes = f"roi_heads.stages.0.predictor.scores.{kind}", f"roi_heads.stages.0.predictor.boxes.{kind}"
        rest[scores], rest[boxes] = rest[scores].roll(1, 0), with_rows_of_background(rest[boxes], 4)
        if (masks := f"roi_heads.mask_head.masks.{kind}") in rest:
            rest[masks] = with_rows_of_background(rest[masks], 1)
    head, mask = model.roi_heads.stages[0].head, model.roi_heads.mask_head
    theirs = modules(len(head.convs), len(head.linears), len(mask.convs) if mask else 0, len(model.rpn.convs))
    renamed = rename_modules(rest, {ours: name for name, ours in theirs.items()})
    return {f"{BODY}{resnet_to_torchvision(name)}": tensor for name, tensor in body.items()} | renamed


def with_rows_of_background(tensor: Tensor, count: int) -> Tensor:
    """Nothing reads them there."""
    return torch.cat([tensor.new_zeros(count, *tensor.shape[1:]), tensor])


def refuse_what_they_lack(model: nn.Module) -> None:
    """Settings that torchvision's detectors have no counterpart of, each by its key and the value they have."""
    if model.neck is None:
        raise WeightsError("torchvision's detectors stand on a pyramid: model.features must be fpn.")
    refuse_other_resnets(model.backbone, model.backbone.state_dict(), "torchvision")
    box, mask, rpn, head = (
        model.roi_heads.config,
        model.roi_heads.mask_config,
        model.rpn,
        model.roi_heads.stages[0].head,
    )
    width = model.neck.channels["p2"]
    needed = {
        "box.ious": (list(box.ious), len(box.ious) == 1, "one"),
        "box.class_agnostic": (box.class_agnostic, not box.class_agnostic, False),
        "box.pool": (box.pool, box.pool == "align", "align"),
        "box.aligned": (box.aligned, not box.aligned, False),
        "box.linears": (len(head.linears), len(head.convs) > 0 or len(head.linears) == 2, "2, without box.convs"),
        "box.norm": ("gn", not has_groups(model.roi_heads.stages), "bn or frozen"),
        "fpn.norm": ("gn", not has_groups(model.neck), "bn or frozen"),
        "rpn.anchors.style": (rpn.config.anchors.style, rpn.anchors.rounded, "torchvision"),
        "rpn.channels": (rpn.config.channels, rpn.objectness.in_channels == width, width),
        "rpn.min_size": (rpn.config.min_size, rpn.config.min_size == 1e-3, 1e-3),
    }
    if mask is not None:
        needed["mask.aligned"] = (mask.aligned, not mask.aligned, False)
        needed["mask.norm"] = ("gn", not has_groups(model.roi_heads.mask_head), "bn or frozen")
    for key, (present, fits, theirs) in needed.items():
        if not fits:
            raise WeightsError(
                f"torchvision's detectors cannot do model.{key}={present}, only {theirs}: save it as safetensors."
            )


def has_groups(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.GroupNorm) for inner in module.modules())
