"""detectron2's Faster, Mask, Keypoint and Cascade R-CNN and residual nets: tensor names and implied settings.

Tensors determine depth, widths, norms, heads and classes. Other settings are those of its model zoo:

- pixels: `pixel_mean` and `pixel_std`, which older files contain; red has the larger mean. A detector without them
  takes BGR minus a mean, not divided, as MSRA's nets do; a plain backbone takes RGB, converted from torchvision.
- stride: in the 1×1 (MSRA) if pixels are not divided and no norm is GroupNorm, else in the 3×3.
- RoIAlign is aligned, with adaptive sampling; only proposals without an area are removed.
- proposals: 1000, from the best 1000 of each pyramid level or the best 6000 of a single map.
- anchors: three ratios; one size per pyramid level, or five sizes on a single map.
- test images: 800 and 1333 pixels, resized by Pillow; padded to a multiple of 32 for a pyramid, else not padded.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights.kind import has_heads
from resdet.weights.layouts.names import count, resnet_name
from resdet.weights.layouts.torchvision_detectors import keypoint_settings

MARK = "proposal_generator.rpn_head.objectness_logits.weight"  # unique to this layout
SCORES = "roi_heads.box_predictor.{}cls_score.weight"
NOT_WEIGHTS = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")
ANCHORS = {"fpn": 3, "c4": 15, "dc5": 15}  # per position
MSRA_MEAN = (103.53, 116.28, 123.675)  # BGR
FIRST = "conv1.conv.weight"  # of the first convolution, under resdet's names
UNSUPPORTED = {  # part of a name -> module it belongs to
    "conv2_offset": "deformable convolutions",
    "sem_seg_head": "a semantic segmentation head",
}

Pairs = list[tuple[str, str]]  # patterns of module names: detectron2's, resdet's


def is_detector(state: Mapping[str, Tensor]) -> bool:
    return MARK in state


def is_backbone(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is an ImageNet net, such as torchvision's R-50.pkl."""
    return "stem.conv1.weight" in state and "res2.0.conv1.weight" in state


# Names


def units(pairs: Pairs) -> Pairs:
    """Returns the pairs of convolutions and of their norms; detectron2's norms are submodules of convolutions."""
    return [pair for a, b in pairs for pair in ((f"{a}.norm", f"{b}.norm"), (a, f"{b}.conv"))]


def detector_modules(body: str, stage: str, rpn: str) -> Pairs:
    """Returns the modules of a detector; {k} counts from 1 in detectron2 and from 0 in resdet, other fields are equal.

    `body`: prefix of detectron2's backbone; `stage`: "{s}." in a cascade, else ""; `rpn`: convolutions of the RPN.
    """
    prefix = f"roi_heads.stages.{stage or '0.'}"
    return [
        *units(
            [
                (f"{body}stem.conv1", "backbone.conv1"),
                (f"{body}res{{r}}.{{b}}.{{u}}", "backbone.conv{r}_x.{b}.{u}"),
                ("roi_heads.res5.{b}.{u}", "roi_heads.stages.0.head.conv5_x.{b}.{u}"),
                ("backbone.fpn_lateral{n}", "neck.lateral.c{n}"),
                ("backbone.fpn_output{n}", "neck.output.c{n}"),
                (f"roi_heads.box_head.{stage}conv{{k}}", f"{prefix}head.convs.{{k}}"),
                ("roi_heads.mask_head.mask_fcn{k}", "roi_heads.mask_head.convs.{k}"),
                ("roi_heads.keypoint_head.conv_fcn{k}", "roi_heads.keypoint_head.convs.{k}"),
            ]
        ),
        (f"proposal_generator.rpn_head.{rpn}", "rpn.convs.{n}" if "{n}" in rpn else "rpn.convs.0"),
        ("proposal_generator.rpn_head.objectness_logits", "rpn.objectness"),
        ("proposal_generator.rpn_head.anchor_deltas", "rpn.deltas"),
        (f"roi_heads.box_head.{stage}fc{{k}}", f"{prefix}head.linears.{{k}}"),
        (f"roi_heads.box_predictor.{stage}cls_score", f"{prefix}predictor.scores"),
        (f"roi_heads.box_predictor.{stage}bbox_pred", f"{prefix}predictor.boxes"),
        ("roi_heads.mask_head.deconv", "roi_heads.mask_head.upsample"),
        ("roi_heads.mask_head.predictor", "roi_heads.mask_head.masks"),
        ("roi_heads.keypoint_head.score_lowres", "roi_heads.keypoint_head.heatmaps"),
    ]


BACKBONE_MODULES = [
    *units([("stem.conv1", "conv1"), ("res{r}.{b}.{u}", "conv{r}_x.{b}.{u}")]),
    ("linear", "fc"),
    ("stem.fc", "fc"),  # written by detectron2's script that converts torchvision's nets
]


def modules_of(state: Mapping[str, Tensor]) -> Pairs:
    """Returns the modules of a detectron2 detector, from its state dict."""
    pyramid, cascade = "backbone.bottom_up.stem.conv1.weight" in state, SCORES.format("0.") in state
    deep = "proposal_generator.rpn_head.conv.conv0.weight" in state
    body = "backbone.bottom_up." if pyramid else "backbone."
    return detector_modules(body, "{s}." if cascade else "", "conv.conv{n}" if deep else "conv")


def renamed(name: str, pairs: Iterable[tuple[str, str]], shift: int) -> str | None:
    """Renames a tensor by the first matching pair, with `shift` added to {k}; None without a match."""
    module, _, last = name.rpartition(".")
    for source, target in pairs:
        if match := re.fullmatch(re.sub(r"\{(\w)\}", r"(?P<\1>[^.]+)", source.replace(".", r"\.")), module):
            parts: dict[str, Any] = match.groupdict()
            if "k" in parts:
                parts["k"] = int(parts["k"]) + shift
            return f"{target.format(**parts)}.{last}"
    return None


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a detector and the RGB pixel statistics, under resdet's names."""
    return with_rgb(state, modules_of(state), f"backbone.{FIRST}", MSRA_MEAN, (1.0, 1.0, 1.0))


def backbone_to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a backbone, its classifier if present, and the RGB pixel statistics."""
    return with_rgb(state, BACKBONE_MODULES, FIRST, IMAGENET_MEAN, IMAGENET_STD)


def with_rgb(
    state: Mapping[str, Tensor], pairs: Pairs, first: str, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Tensor]:
    """Renames tensors and permutes `first` to RGB; `mean` and `std`: defaults, in the channel order of the weights."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(NOT_WEIGHTS)}
    converted = {renamed(name, pairs, -1) or name: tensor for name, tensor in kept.items()}
    means, deviations = pixels(state, mean, std)
    if means[0] <= means[2]:  # BGR
        converted[first], means, deviations = converted[first].flip(1), means.flip(0), deviations.flip(0)
    return {**converted, "normalize.mean": means, "normalize.std": deviations}


def pixels(
    state: Mapping[str, Tensor], mean: Sequence[float] = MSRA_MEAN, std: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Returns mean and std [3, 1, 1] in the channel order of the weights: the file's, else the defaults."""
    means, deviations = state.get("pixel_mean", torch.tensor(mean)), state.get("pixel_std", torch.tensor(std))
    return means.view(3, 1, 1), deviations.view(3, 1, 1)


# Implied settings


def settings(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """Returns the `model` section of a config that fits the weights of a detector."""
    refuse_unsupported(state, origin)
    body = "backbone.bottom_up." if "backbone.bottom_up.stem.conv1.weight" in state else "backbone."
    features = "fpn" if body != "backbone." else "c4" if "roi_heads.res5.0.conv1.weight" in state else "dc5"
    stages = {f"res{n}": f"{body}res{n}" for n in range(2, 6)}
    if features == "c4":
        stages["res5"] = "roi_heads.res5"
    per_position = len(state[MARK])
    if per_position != ANCHORS[features]:
        raise WeightsError(
            f"{origin}: the weights do not imply the sizes of {per_position} anchors per position: build the model "
            "from its config (resdet config --from-detectron2 FILE) and load the weights into it."
        )
    model: dict[str, Any] = {
        "backbone": backbone_settings(state, stages, origin, pixels(state)[1]),
        "features": features,
        "rpn": rpn_settings(state),
        "box": box_settings(state),
        "input": {"resize": "pillow", "divisor": 32 if features == "fpn" else 1},
    }
    model["num_classes"] = len(first_scores(state)) - 1
    if features == "fpn":
        lateral = "backbone.fpn_lateral2"
        model["neck"] = {"width": len(state[f"{lateral}.weight"]), "norm": norm_of(state, lateral)}
    else:
        model["rpn"] |= {"pre_nms": [12000, 6000], "post_nms": [2000, 1000]}
    if "roi_heads.mask_head.predictor.weight" in state:
        model["mask"] = mask_settings(state, origin, model["num_classes"])
    if (heatmaps := state.get("roi_heads.keypoint_head.score_lowres.weight")) is not None:
        convs = count(state, r"roi_heads\.keypoint_head\.conv_fcn\d\.weight")
        model["keypoint"] = {"sampling": 0, "convs": convs, **keypoint_settings(heatmaps)}
    return model


def first_scores(state: Mapping[str, Tensor]) -> Tensor:
    single = SCORES.format("")
    return state[single if single in state else SCORES.format("0.")]


def rpn_settings(state: Mapping[str, Tensor]) -> dict:
    head = "proposal_generator.rpn_head.conv"
    convs = count(state, rf"{re.escape(head)}\.conv\d+\.weight") or 1
    last = f"{head}.weight" if f"{head}.weight" in state else f"{head}.conv0.weight"
    return {"convs": convs, "channels": len(state[last]), "beta": 0.0, "min_size": 1e-6}


def box_settings(state: Mapping[str, Tensor]) -> dict:
    stages = count(state, r"roi_heads\.box_predictor\.\d\.cls_score\.weight")
    prefix = "0." if stages else ""
    head = f"roi_heads.box_head.{prefix}"
    rows = len(state[f"roi_heads.box_predictor.{prefix}bbox_pred.weight"])
    agnostic = rows == 4 and (stages > 0 or len(first_scores(state)) > 2)  # one class has four rows too
    box: dict[str, Any] = {"sampling": 0, "beta": 0.0, "class_agnostic": agnostic}
    if stages:
        box["ious"] = [0.5, 0.6, 0.7]
    if f"{head}fc1.weight" in state:
        linears, convs = (count(state, rf"{re.escape(head)}{kind}\d\.weight") for kind in ("fc", "conv"))
        box |= {"linears": linears, "width": len(state[f"{head}fc1.weight"]), "convs": convs}
    if f"{head}conv1.weight" in state:
        box |= {"conv_width": len(state[f"{head}conv1.weight"]), "norm": norm_of(state, f"{head}conv1")}
    return box


def mask_settings(state: Mapping[str, Tensor], origin: str, classes: int) -> dict:
    head = "roi_heads.mask_head"
    if len(state[f"{head}.predictor.weight"]) != classes:
        raise WeightsError(
            f"{origin}: class-agnostic masks (CLS_AGNOSTIC_MASK) are not supported: give a model with masks per class."
        )
    return {
        "sampling": 0,
        "convs": count(state, rf"{re.escape(head)}\.mask_fcn\d\.weight"),
        "width": state[f"{head}.deconv.weight"].shape[1],
        "norm": norm_of(state, f"{head}.mask_fcn1"),
    }


def settings_of_backbone(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """Returns the `model.backbone` section of a config that fits the weights of a backbone."""
    refuse_unsupported(state, origin)
    stages = {f"res{n}": f"res{n}" for n in range(2, 6)}
    section = backbone_settings(state, stages, origin, pixels(state, IMAGENET_MEAN, IMAGENET_STD)[1])
    return section | {"norm": "gn" if section["norm"] == "gn" else "bn"}


def backbone_settings(state: Mapping[str, Tensor], stages: Mapping[str, str], origin: str, std: Tensor) -> dict:
    blocks = tuple(
        len({n.removeprefix(f"{stage}.").split(".")[0] for n in state if n.startswith(f"{stage}.")})
        for stage in stages.values()
    )
    name = resnet_name(blocks, f"{stages['res2']}.0.conv3.weight" in state, origin)
    norm = norm_of(state, f"{stages['res5']}.0.conv1")
    divided = bool((std != 1).any())
    return {
        "name": name,
        "norm": norm,
        "shortcut": "B",
        "stride_in": "3x3" if divided or norm == "gn" else "1x1",
    }


def norm_of(state: Mapping[str, Tensor], unit: str) -> str | None:
    """Returns the kind of norm of a convolution; only trainable batch norms have a step counter."""
    if f"{unit}.norm.num_batches_tracked" in state:
        return "sync"
    if f"{unit}.norm.running_mean" in state:
        return "frozen"
    return "gn" if f"{unit}.norm.weight" in state else None


def refuse_unsupported(state: Mapping[str, Tensor], origin: str) -> None:
    kinds = {kind for part, kind in UNSUPPORTED.items() if any(part in name for name in state)}
    inner = next(tensor for name, tensor in state.items() if name.endswith("res2.0.conv2.weight"))
    if inner.shape[1] != inner.shape[0]:
        kinds.add("grouped convolutions (ResNeXt)")
    if kinds:
        raise WeightsError(
            f"{origin}: detectron2 nets with {' and '.join(sorted(kinds))} are not supported: give another model."
        )


# Conversion to detectron2


def from_our_names(model: Any) -> dict[str, Tensor]:
    """Returns a state dict that detectron2's module of the same shape loads with strict=True.

    Detectors take BGR pixels, the default of detectron2's configs; backbones and classifiers take RGB. Pixel statistics
    and the stride of bottlenecks belong to the config, which interop/to_detectron2.py writes.
    """
    state = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items() if not n.startswith("normalize.")}
    if has_heads(model):
        if model.rpn.anchors.rounded:
            raise WeightsError("detectron2 has no anchors of style torchvision: model.rpn.anchors.style must be exact.")
        pairs, first = modules_for(model), f"backbone.{FIRST}"
        state = {n: tensor.flip(1) if n == first else tensor for n, tensor in state.items()}
    else:
        pairs = BACKBONE_MODULES
        state = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    refuse_other_nets(state)
    inverse = [(target, source) for source, target in pairs]
    return {renamed(name, inverse, 1) or name: tensor for name, tensor in with_counters(state).items()}


def modules_for(model: Any) -> Pairs:
    """Returns the modules of a Detector."""
    body = "backbone." if model.neck is None else "backbone.bottom_up."
    stage = "{s}." if len(model.roi_heads.stages) > 1 else ""
    return detector_modules(body, stage, "conv.conv{n}" if len(model.rpn.convs) > 1 else "conv")


def refuse_other_nets(state: Mapping[str, Tensor]) -> None:
    """Refuses backbones other than ImageNet ResNets with shortcuts of option B."""
    names = {name.removeprefix("backbone.") for name in state}
    if "conv3_x.0.shortcut.conv.weight" not in names or "conv3_x.1.shortcut.conv.weight" in names:
        raise WeightsError(
            "detectron2 has no such backbone (plain, VGG, timm, for CIFAR, or with shortcuts A or C): "
            "use the layout safetensors."
        )


def with_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds step counters to frozen norms of a backbone with trainable batch norms, as detectron2 expects."""
    body = [name for name in state if name.startswith(("backbone.", "conv"))]
    if not any(name.endswith("num_batches_tracked") for name in body):
        return state
    means = [name for name in body if name.endswith("running_mean")]
    return {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in means} | state
