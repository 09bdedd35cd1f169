"""detectron2's Faster, Mask and Cascade R-CNN (C4, DC5, FPN) and its residual nets: names, and settings they imply.

The tensors tell depth, widths, norms, heads and classes. What they do not tell is as in that library's model zoo:

- pixels: by `pixel_mean` and `pixel_std`, which files of old carry, red having the larger mean. A detector
  without them takes BGR minus a mean, undivided, as MSRA's nets do; a backbone alone RGB, converted from torchvision.
- stride: in the 1×1 (MSRA's) where pixels are not divided and no norm is GroupNorm; otherwise in the 3×3.
- RoIAlign is the aligned one, with as many samples as pixels; regions without an area are all that is dropped.
- proposals: 1000, of the best 1000 of each level of a pyramid, or of the best 6000 on one map.
- anchors: of three ratios, one size a level of a pyramid, five sizes on one map.
- test images: 800 and 1333 pixels, resized by Pillow; padded to a multiple of 32 for a pyramid, else not at all.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD

MARK = "proposal_generator.rpn_head.objectness_logits.weight"  # no other layout has this name
SCORES = "roi_heads.box_predictor.{}cls_score.weight"
BESIDES = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")  # no weights of a layer
BLOCKS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
BASIC_BLOCKS = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
ANCHORS = {"fpn": 3, "c4": 15, "dc5": 15}
MSRA_MEAN = (103.53, 116.28, 123.675)  # BGR, as that library has it
FIRST = "conv1.conv.weight"  # ours, of the convolution that sees the pixels
UNKNOWN = {  # part of a name -> what it belongs to
    "conv2_offset": "deformable convolutions",
    "keypoint_head": "a head of keypoints",
    "sem_seg_head": "a head of semantic segmentation",
}

Pairs = list[tuple[str, str]]  # of modules: a pattern of their names, and of ours


def is_detector(state: Mapping[str, Tensor]) -> bool:
    return MARK in state


def is_backbone(state: Mapping[str, Tensor]) -> bool:
    """One of their ImageNet nets, such as torchvision's R-50.pkl."""
    return "stem.conv1.weight" in state and "res2.0.conv1.weight" in state


# Names


def units(pairs: Pairs) -> Pairs:
    """The convolution of each pair, and its norm, which theirs holds inside."""
    return [pair for a, b in pairs for pair in ((f"{a}.norm", f"{b}.norm"), (a, f"{b}.conv"))]


def detector_modules(body: str, stage: str, rpn: str) -> Pairs:
    """Their modules beside ours; {k} counts from 1 there and from 0 here, what else stands in braces is the same.

    `body`: what their backbone's names begin with; `stage`: "{s}." in a cascade; `rpn`: its convolutions.
    """
    ours = f"roi_heads.stages.{stage or '0.'}"
    return [
        *units(
            [
                (f"{body}stem.conv1", "backbone.conv1"),
                (f"{body}res{{r}}.{{b}}.{{u}}", "backbone.conv{r}_x.{b}.{u}"),
                ("roi_heads.res5.{b}.{u}", "roi_heads.stages.0.head.conv5_x.{b}.{u}"),
                ("backbone.fpn_lateral{n}", "neck.lateral.c{n}"),
                ("backbone.fpn_output{n}", "neck.output.c{n}"),
                (f"roi_heads.box_head.{stage}conv{{k}}", f"{ours}head.convs.{{k}}"),
                ("roi_heads.mask_head.mask_fcn{k}", "roi_heads.mask_head.convs.{k}"),
            ]
        ),
        (f"proposal_generator.rpn_head.{rpn}", "rpn.convs.{n}" if "{n}" in rpn else "rpn.convs.0"),
        ("proposal_generator.rpn_head.objectness_logits", "rpn.objectness"),
        ("proposal_generator.rpn_head.anchor_deltas", "rpn.deltas"),
        (f"roi_heads.box_head.{stage}fc{{k}}", f"{ours}head.linears.{{k}}"),
        (f"roi_heads.box_predictor.{stage}cls_score", f"{ours}predictor.scores"),
        (f"roi_heads.box_predictor.{stage}bbox_pred", f"{ours}predictor.boxes"),
        ("roi_heads.mask_head.deconv", "roi_heads.mask_head.upsample"),
        ("roi_heads.mask_head.predictor", "roi_heads.mask_head.masks"),
    ]


BACKBONE_MODULES = [
    *units([("stem.conv1", "conv1"), ("res{r}.{b}.{u}", "conv{r}_x.{b}.{u}")]),
    ("linear", "fc"),
    ("stem.fc", "fc"),  # of the script that converts torchvision's
]


def modules_of(state: Mapping[str, Tensor]) -> Pairs:
    """Of their detector's state dict."""
    pyramid, cascade = "backbone.bottom_up.stem.conv1.weight" in state, SCORES.format("0.") in state
    deep = "proposal_generator.rpn_head.conv.conv0.weight" in state
    body = "backbone.bottom_up." if pyramid else "backbone."
    return detector_modules(body, "{s}." if cascade else "", "conv.conv{n}" if deep else "conv")


def renamed(name: str, pairs: Iterable[tuple[str, str]], shift: int) -> str | None:
    """A tensor's name by the first pair that fits, {k} shifted; None where there is none."""
    module, _, last = name.rpartition(".")
    for given, wanted in pairs:
        if match := re.fullmatch(re.sub(r"\{(\w)\}", r"(?P<\1>[^.]+)", given.replace(".", r"\.")), module):
            parts = match.groupdict()
            if "k" in parts:
                parts["k"] = int(parts["k"]) + shift
            return f"{wanted.format(**parts)}.{last}"
    return None


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector's tensors and the statistics of RGB pixels, under our names."""
    return with_rgb(state, modules_of(state), f"backbone.{FIRST}", MSRA_MEAN, (1.0, 1.0, 1.0))


def backbone_to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's, with its classifier if there is one."""
    return with_rgb(state, BACKBONE_MODULES, FIRST, IMAGENET_MEAN, IMAGENET_STD)


def with_rgb(
    state: Mapping[str, Tensor], pairs: Pairs, first: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Tensor]:
    """Renamed, with `first` permuted to RGB; `mean` and `std`, in the order of the weights, where the file has none."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(BESIDES)}
    ours = {renamed(name, pairs, -1) or name: tensor for name, tensor in kept.items()}
    mean, std = pixels(state, mean, std)
    if mean[0] <= mean[2]:  # BGR
        ours[first], mean, std = ours[first].flip(1), mean.flip(0), std.flip(0)
    return {**ours, "normalize.mean": mean, "normalize.std": std}


def pixels(
    state: Mapping[str, Tensor], mean: tuple[float, ...] = MSRA_MEAN, std: tuple[float, ...] = (1.0, 1.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Mean and deviation [3, 1, 1] in the order of the weights: the file's, or the given ones."""
    default = {"pixel_mean": torch.tensor(mean), "pixel_std": torch.tensor(std)}
    return tuple(state.get(name, values).view(3, 1, 1) for name, values in default.items())


# What the tensors imply


def settings(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """The `model` section of a config that a detector's weights fit."""
    refuse_what_we_lack(state, origin)
    body = "backbone.bottom_up." if "backbone.bottom_up.stem.conv1.weight" in state else "backbone."
    features = "fpn" if body != "backbone." else "c4" if "roi_heads.res5.0.conv1.weight" in state else "dc5"
    stages = {f"res{n}": f"{body}res{n}" for n in range(2, 6)}
    if features == "c4":
        stages["res5"] = "roi_heads.res5"
    per_position = len(state[MARK])
    if per_position != ANCHORS[features]:
        raise WeightsError(
            f"{origin}: {per_position} anchors at a position, of which the weights do not tell the sizes: build the "
            "net from its config (resdet config --from-detectron2 FILE), and load the weights into it."
        )
    model = {
        "backbone": backbone_settings(state, body, stages, origin, *pixels(state)),
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
    box = {"sampling": 0, "beta": 0.0, "class_agnostic": rows == 4}
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
        raise WeightsError(f"{origin}: one mask for all classes (CLS_AGNOSTIC_MASK), which no head here draws.")
    return {
        "sampling": 0,
        "convs": count(state, rf"{re.escape(head)}\.mask_fcn\d\.weight"),
        "width": state[f"{head}.deconv.weight"].shape[1],
        "norm": norm_of(state, f"{head}.mask_fcn1"),
    }


def settings_of_backbone(state: Mapping[str, Tensor], origin: str = "the given state dict") -> dict:
    """The `model.backbone` section of a config that a backbone's weights fit."""
    refuse_what_we_lack(state, origin)
    stages = {f"res{n}": f"res{n}" for n in range(2, 6)}
    found = backbone_settings(state, "", stages, origin, *pixels(state, IMAGENET_MEAN, IMAGENET_STD))
    return found | {"norm": "gn" if found["norm"] == "gn" else "bn"}


def backbone_settings(
    state: Mapping[str, Tensor], body: str, stages: Mapping[str, str], origin: str, mean: Tensor, std: Tensor
) -> dict:
    blocks = tuple(
        len({n.removeprefix(f"{stage}.").split(".")[0] for n in state if n.startswith(f"{stage}.")})
        for stage in stages.values()
    )
    bottleneck = f"{stages['res2']}.0.conv3.weight" in state
    depth = (BLOCKS if bottleneck else BASIC_BLOCKS).get(blocks)
    if depth is None:
        raise WeightsError(f"{origin}: a net of {blocks} blocks is none of ResNet-18 to 152: it cannot be built.")
    norm = norm_of(state, f"{stages['res5']}.0.conv1")
    divided = bool((std != 1).any())
    return {
        "name": f"resnet{depth}",
        "norm": norm,
        "shortcut": "B",
        "stride_in": "3x3" if divided or norm == "gn" else "1x1",
    }


def norm_of(state: Mapping[str, Tensor], unit: str) -> str | None:
    """The norm inside a convolution of theirs; only those that learn count their steps."""
    if f"{unit}.norm.num_batches_tracked" in state:
        return "sync"
    if f"{unit}.norm.running_mean" in state:
        return "frozen"
    return "gn" if f"{unit}.norm.weight" in state else None


def refuse_what_we_lack(state: Mapping[str, Tensor], origin: str) -> None:
    kinds = {kind for part, kind in UNKNOWN.items() if any(part in name for name in state)}
    inner = next(tensor for name, tensor in state.items() if name.endswith("res2.0.conv2.weight"))
    if inner.shape[1] != inner.shape[0]:
        kinds.add("convolutions in groups (ResNeXt)")
    if kinds:
        raise WeightsError(f"{origin}: a net of detectron2 with {' and '.join(sorted(kinds))}, which none here has.")


def count(names: Iterable[str], pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in names)


# The way back


def from_our_names(model: nn.Module) -> dict[str, Tensor]:
    """What their module of the same shape takes by `load_state_dict(…, strict=True)`.

    Of a detector, for BGR pixels as their configs have them by default; of a backbone or a classifier, for RGB. The
    statistics of pixels and where the bottlenecks stride are in their configs: interop/to_detectron2.py writes one.
    """
    state = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items() if not n.startswith("normalize.")}
    if hasattr(model, "backbone_tensors"):
        if model.rpn.anchors.rounded:
            raise WeightsError("detectron2 has no anchors of style torchvision: model.rpn.anchors.style must be exact.")
        pairs, first = modules_for(model), f"backbone.{FIRST}"
        state = {n: tensor.flip(1) if n == first else tensor for n, tensor in state.items()}
    else:
        pairs = BACKBONE_MODULES
        state = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    refuse_other_nets(state)
    inverse = [(ours, theirs) for theirs, ours in pairs]
    return {renamed(name, inverse, 1) or name: tensor for name, tensor in with_counters(state).items()}


def modules_for(model: nn.Module) -> Pairs:
    """Of a detector of ours."""
    body = "backbone." if model.neck is None else "backbone.bottom_up."
    stage = "{s}." if len(model.roi_heads.stages) > 1 else ""
    return detector_modules(body, stage, "conv.conv{n}" if len(model.rpn.convs) > 1 else "conv")


def refuse_other_nets(state: Mapping[str, Tensor]) -> None:
    """They know residual nets for ImageNet with projections where dimensions grow (option B)."""
    names = {name.removeprefix("backbone.") for name in state}
    if "conv3_x.0.shortcut.conv.weight" not in names or "conv3_x.1.shortcut.conv.weight" in names:
        raise WeightsError(
            "detectron2 has no such backbone (plain, VGG, of timm, for CIFAR, or of shortcuts A or C): "
            "save it as safetensors."
        )


def with_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their norms that learn count steps, even where the first stages are frozen; ours that are frozen do not."""
    body = [name for name in state if name.startswith(("backbone.", "conv"))]
    if not any(name.endswith("num_batches_tracked") for name in body):
        return state
    means = [name for name in body if name.endswith("running_mean")]
    return {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in means} | state
