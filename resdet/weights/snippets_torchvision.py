"""Generates Python code that builds torchvision's counterpart of a detector. `model`: a Detector."""

from typing import Any

from torch import nn

from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights.layouts.torchvision_classifiers import name_of

SIDES, RATIOS = [[32], [64], [128], [256], [512]], [0.5, 1, 2]  # of anchors
DEFAULTS = {  # torchvision's argument -> its default
    "min_size": 800,
    "max_size": 1333,
    "size_divisible": 32,
    "image_mean": [round(value / 255, 6) for value in IMAGENET_MEAN],
    "image_std": [round(value / 255, 6) for value in IMAGENET_STD],
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_test": 1000,
    "rpn_nms_thresh": 0.7,
    "box_score_thresh": 0.05,
    "box_nms_thresh": 0.5,
    "box_detections_per_img": 100,
}
IMPORTS = {  # name in an expression -> its import
    "resnet": "from torchvision.models import {name}",
    "FasterRCNN": "from torchvision.models.detection import FasterRCNN",
    "KeypointRCNN": "from torchvision.models.detection import KeypointRCNN",
    "MaskRCNN": "from torchvision.models.detection import MaskRCNN",
    "AnchorGenerator": "from torchvision.models.detection.anchor_utils import AnchorGenerator",
    "BackboneWithFPN": "from torchvision.models.detection.backbone_utils import BackboneWithFPN",
    "FastRCNNConvFCHead": "from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead",
    "FastRCNNPredictor": "from torchvision.models.detection.faster_rcnn import FastRCNNPredictor",
    "TwoMLPHead": "from torchvision.models.detection.faster_rcnn import TwoMLPHead",
    "KeypointRCNNHeads": "from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads",
    "KeypointRCNNPredictor": "from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor",
    "MaskRCNNHeads": "from torchvision.models.detection.mask_rcnn import MaskRCNNHeads",
    "MaskRCNNPredictor": "from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor",
    "RPNHead": "from torchvision.models.detection.rpn import RPNHead",
    "MultiScaleRoIAlign": "from torchvision.ops import MultiScaleRoIAlign",
    "BatchNorm2d": "from torch.nn import BatchNorm2d",
}


def detector(model: Any) -> str:
    """Returns imports and `model = …`: torchvision's factory function if it fits, else all parts."""
    kind = "keypoint" if model.draws_keypoints else "mask" if model.draws_masks else "faster"
    arguments = {key: value for key, value in settings(model).items() if value != DEFAULTS[key]}
    if (version := version_of(model)) is not None:
        name = f"{kind}rcnn_resnet50_fpn{version}"
        if model.draws_keypoints:
            arguments = {"num_keypoints": len(model.keypoints.keypoint_names), **arguments}
        arguments = {"weights": None, "weights_backbone": None, "num_classes": len(model.classes) + 1, **arguments}
        return f"from torchvision.models.detection import {name}\nmodel = {name}({keywords(arguments)})"
    expression = f"{kind.title()}RCNN({backbone(model)}, {keywords(arguments | parts(model))})".replace("Rcnn", "RCNN")
    name = name_of(model.backbone)
    imports = [line.format(name=name) for word, line in IMPORTS.items() if word in expression]
    return "\n".join([*imports, f"model = {expression}"])


def settings(model: Any) -> dict[str, Any]:
    """Returns the arguments that are plain values."""
    mean, std = statistics(model)
    box, rpn = model.roi_heads.config, model.rpn.config
    values = (
        model.input.min_size,
        model.input.max_size,
        model.input.divisor,
        mean,
        std,
        rpn.pre_nms[1],
        rpn.post_nms[1],
    )
    return dict(zip(DEFAULTS, (*values, rpn.nms, model.score, box.nms, box.detections)))


def statistics(model: Any) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of pixels from 0 to 1."""
    mean, std = ([round(value / 255, 6) for value in values] for values in colors(model))
    return mean, std


def colors(model: Any) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of pixels from 0 to 255."""
    mean, std = model.normalize.mean, model.normalize.std
    if mean.shape[1:] != (1, 1):
        raise WeightsError(
            "This model subtracts a per-pixel mean, which other libraries cannot: use the layout safetensors."
        )
    return mean.flatten().tolist(), std.flatten().tolist()


def version_of(model: Any) -> str | None:
    """Returns "" or "_v2" if torchvision's detector on ResNet-50 has the same shape, else None."""
    head = model.roi_heads.stages[0].head
    masks = model.roi_heads.mask_head if model.draws_masks else None
    common = name_of(model.backbone) == "resnet50" and model.neck.channels["p2"] == 256 and head.width == 1024
    common = common and anchors(model) == (SIDES, RATIOS) and not pools(model)
    common = common and (masks is None or (len(masks.convs), masks.upsample.out_channels) == (4, 256))
    if model.draws_keypoints:
        keypoints = model.roi_heads.keypoint_head
        common = common and (len(keypoints.convs), keypoints.heatmaps.in_channels) == (8, 512)
    norms = [has_norms(part) for part in (model.neck, masks) if part is not None]
    shape = (len(model.rpn.convs), len(head.convs), len(head.linears))
    if common and shape == (1, 0, 2) and not any(norms):
        return ""
    conv_width = head.convs[0].conv.out_channels if len(head.convs) else None
    if (
        common
        and not model.draws_keypoints
        and shape == (2, 4, 1)
        and conv_width == 256
        and all([*norms, has_norms(head)])
    ):
        return "_v2"
    return None


def backbone(model: Any) -> str:
    layers = {f"layer{n + 1}": str(n) for n in range(4)}
    arguments = [str(layers), str(list(model.backbone.channels.values())), str(model.neck.channels["p2"])]
    return f"BackboneWithFPN({name_of(model.backbone)}(), {', '.join(arguments)}{norm_layer(model.neck)})"


def parts(model: Any) -> dict[str, Any]:
    """Returns the arguments that are modules, as expressions."""
    head, width, count = model.roi_heads.stages[0].head, model.neck.channels["p2"], len(model.classes) + 1
    sides, ratios = anchors(model)
    result = {
        "rpn_anchor_generator": f"AnchorGenerator({sides}, {[ratios] * len(sides)})",
        "rpn_head": f"RPNHead({width}, {model.rpn.anchors.per_position}, {len(model.rpn.convs)})",
        "box_head": box_head(head, width, model.roi_heads.pooler.size),
        "box_predictor": f"FastRCNNPredictor({head.width}, {count})",
    }
    if model.draws_masks:
        masks = model.roi_heads.mask_head
        reduced, widths = masks.upsample.out_channels, [unit.conv.out_channels for unit in masks.convs]
        result["mask_head"] = f"MaskRCNNHeads({width}, {widths}, 1{norm_layer(masks)})"
        result["mask_predictor"] = f"MaskRCNNPredictor({masks.upsample.in_channels}, {reduced}, {count})"
    if model.draws_keypoints:
        keypoints = model.roi_heads.keypoint_head
        widths = [unit.conv.out_channels for unit in keypoints.convs]
        heatmaps = keypoints.heatmaps
        result["keypoint_head"] = f"KeypointRCNNHeads({width}, {widths})"
        result["keypoint_predictor"] = f"KeypointRCNNPredictor({heatmaps.in_channels}, {heatmaps.out_channels})"
    return {key: Expression(value) for key, value in (result | pools(model)).items()}


def box_head(head: Any, width: int, size: int) -> str:
    if not len(head.convs):
        return f"TwoMLPHead({width * size * size}, {head.width})"
    convs, linears = [u.conv.out_channels for u in head.convs], [layer.out_features for layer in head.linears]
    return f"FastRCNNConvFCHead({(width, size, size)}, {convs}, {linears}{norm_layer(head)})"


def pools(model: Any) -> dict[str, str]:
    """Returns RoIAlign modules that differ from torchvision's defaults."""
    poolers = {"box": (model.roi_heads.pooler, 7)}
    poolers |= {name: (branch.features.pooler, 14) for name, branch in model.roi_heads.branches.items()}
    return {
        f"{kind}_roi_pool": "MultiScaleRoIAlign(['0', '1', '2', '3'], "
        f"{pooler.size}, {pooler.sampling}, canonical_scale={pooler.canonical:g})"
        for kind, (pooler, size) in poolers.items()
        if (pooler.size, pooler.sampling, pooler.canonical) != (size, 2, 224)
    }


def anchors(model: Any) -> tuple[list, list]:
    config = model.rpn.config.anchors
    return [list(sides) for sides in config.sizes or SIDES], list(config.ratios)


def norm_layer(module: nn.Module) -> str:
    return ", norm_layer=BatchNorm2d" if has_norms(module) else ""


def has_norms(module: nn.Module) -> bool:
    return any(name.endswith("running_var") for name in module.state_dict())


class Expression(str):
    """Python code that `repr` does not quote."""

    __repr__ = str.__str__


def keywords(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
