"""Writes the detectron2 config of a detector, to use with its converted weights.

config = get_cfg()
config.merge_from_other_cfg(CfgNode(config_for(model)))
"""

from typing import Any

from resdet.backbones.config import IMAGENET_RESNETS
from resdet.detection.evaluation.keypoints import sigmas_of
from resdet.detection.model import Detector
from resdet.errors import ConfigError
from resdet.interop.detectron2_config import default_resolution, default_sizes
from resdet.interop.detectron2_keys import (
    CANONICAL,
    DEFAULTS,
    FORMS,
    NORMS,
    POOLERS,
    SAME,
    SAME_OF_KEYPOINTS,
    SAME_OF_LINEAR_HEADS,
    SAME_OF_MASKS,
)
from resdet.interop.detectron2_yaml import nested
from resdet.weights.snippets_torchvision import colors


def config_for(model: Detector) -> dict[str, Any]:
    """Returns nested MODEL, INPUT and TEST sections for a detector that was built from a config.

    Training-only settings (schedule, data, matching thresholds) keep detectron2's defaults.
    """
    section = model.experiment["model"]
    name, features = section["backbone"]["name"], section["features"]
    if name not in IMAGENET_RESNETS or features not in FORMS:
        raise ConfigError(f"detectron2 has no {name} with features {features}: use a ResNet with c4, dc5 or fpn.")
    depth = IMAGENET_RESNETS[name]
    if depth < 50 and features != "fpn":
        raise ConfigError(f"detectron2 has no {name} with features {features}: use fpn.")
    settings = {
        "VERSION": 2,
        **form(features, len(section["box"]["ious"]) > 1),
        **same(section, SAME),
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if depth < 50 else 256,
        "MODEL.RESNETS.NORM": norm(section["backbone"]["norm"]),
        "MODEL.RESNETS.STRIDE_IN_1X1": section["backbone"]["stride_in"] == "1x1",
        "MODEL.FPN.NORM": norm(section["neck"]["norm"]),
        "MODEL.ROI_HEADS.NUM_CLASSES": len(model.classes),
        **rpn(section["rpn"], features),
        **box(section["box"], features),
        **pixels(model),
    }
    if section["mask"] is not None:
        settings |= mask(section, features)
    if model.draws_keypoints:
        count = len(model.keypoints.keypoint_names)
        settings |= keypoint(section, count, sigmas_of(count, model.experiment.get("eval", {}).get("keypoint_sigmas")))
    return nested(settings)


def form(features: str, cascade: bool) -> dict[str, Any]:
    heads = FORMS[features]["MODEL.ROI_HEADS.NAME"]
    return FORMS[features] | {"MODEL.ROI_HEADS.NAME": heads[-1] if cascade else heads[0]}


def same(section: dict, table: dict[str, tuple[Any, str]]) -> dict[str, Any]:
    """Returns the keys of the model section that have equal values in both libraries."""
    settings = {}
    for key, (_, name) in table.items():
        root, *path = name.split(".")
        if root == "model":
            value: Any = section
            for part in path:
                value = value[part]
            settings[key] = value
    return settings


def norm(kind: str | None) -> str:
    return next(name for name, value in NORMS.items() if value == kind)


def pooler(kind: str, aligned: bool) -> str:
    return next(name for name, value in POOLERS.items() if value == (kind, aligned or kind == "max"))


def rpn(section: dict, features: str) -> dict[str, Any]:
    anchors = section["anchors"]
    if anchors["style"] != "exact":
        raise ConfigError("detectron2 has no anchors of style torchvision: model.rpn.anchors.style must be exact.")
    levels = len(FORMS[features]["MODEL.RPN.IN_FEATURES"])
    settings = {
        "MODEL.ANCHOR_GENERATOR.SIZES": anchors["sizes"] or default_sizes(levels),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [anchors["ratios"]],
        "MODEL.RPN.CONV_DIMS": [section["channels"] or -1] * section["convs"],
        "MODEL.RPN.IOU_THRESHOLDS": [section["negative_iou"], section["positive_iou"]],
        "MODEL.RPN.BOUNDARY_THRESH": 0 if section["inside_only"] else -1,
        "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": int(section["min_size"]),  # an integer in detectron2
    }
    for index, mode in enumerate(("TRAIN", "TEST")):
        settings[f"MODEL.RPN.PRE_NMS_TOPK_{mode}"] = section["pre_nms"][index]
        settings[f"MODEL.RPN.POST_NMS_TOPK_{mode}"] = section["post_nms"][index]
    return settings


def box(section: dict, features: str) -> dict[str, Any]:
    ious = section["ious"]
    if features == "fpn" and section["canonical_size"] != CANONICAL:
        raise ConfigError(
            f"detectron2 has no model.box.canonical_size={section['canonical_size']:g}: it must be 224 with a pyramid."
        )
    settings = {
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": pooler(section["pool"], section["aligned"]),
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": section["resolution"] or default_resolution(features),
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": section["loss"],
        "MODEL.ROI_HEADS.IOU_THRESHOLDS": ious[:1],
    }
    if len(ious) > 1:
        weights = DEFAULTS["MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"]
        settings["MODEL.ROI_BOX_CASCADE_HEAD.IOUS"] = ious
        settings["MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"] = [weights[min(n, 2)] for n in range(len(ious))]
    if features == "c4":
        return settings
    linear = {"MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NORM": norm(section["norm"])}
    return settings | linear | same({"box": section}, SAME_OF_LINEAR_HEADS)


def mask(section: dict, features: str) -> dict[str, Any]:
    settings = {
        "MODEL.MASK_ON": True,
        **same(section, SAME_OF_MASKS),
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE": pooler("align", section["mask"]["aligned"]),
        "MODEL.ROI_MASK_HEAD.NORM": norm(section["mask"]["norm"]),
    }
    if features == "c4":
        settings["MODEL.ROI_MASK_HEAD.NUM_CONV"] = 0
    return settings


def keypoint(section: dict, count: int, sigmas: list[float]) -> dict[str, Any]:
    head = section["keypoint"]
    if head["norm"] is not None:
        raise ConfigError(f"detectron2 has no model.keypoint.norm={head['norm']}: it must be null.")
    return {
        "MODEL.KEYPOINT_ON": True,
        **same(section, SAME_OF_KEYPOINTS),
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": pooler("align", head["aligned"]),
        "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [head["width"]] * head["convs"],
        "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": count,
        "TEST.KEYPOINT_OKS_SIGMAS": sigmas,
    }


def pixels(model: Detector) -> dict[str, Any]:
    """Returns pixel statistics in BGR, the channel order of converted weights (weights/layouts/detectron2.py)."""
    mean, std = (values[::-1] for values in colors(model))
    return {"INPUT.FORMAT": "BGR", "MODEL.PIXEL_MEAN": mean, "MODEL.PIXEL_STD": std}
