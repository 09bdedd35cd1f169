"""Builds a detector from its config."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from resdet.backbones.layers import Backbone
from resdet.backbones.surgery import detach_last_stage, dilate_last_stage, freeze_stages
from resdet.backbones.vgg import VGG
from resdet.config.experiment import check_count, to_dict
from resdet.detection.config import DetectionExperiment, DetectorConfig
from resdet.detection.heads.box_head import Conv5Head, RoIPooler, VGGHead
from resdet.detection.heads.branches import BranchInput, Conv5Features, RoIBranch
from resdet.detection.heads.config import BoxConfig, positive_count
from resdet.detection.heads.mnc import MNC, RoIWarp
from resdet.detection.heads.registry import BoxHead, box_heads, roi_branches
from resdet.detection.heads.roi_heads import RoIHeads
from resdet.detection.heads.rpn import RPN
from resdet.detection.model import Detector
from resdet.errors import ConfigError
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.necks.base import Neck

SINGLE_LEVEL_SIZES = (32, 64, 128, 256, 512)


def build_detector(
    experiment: DetectionExperiment, classes: Sequence[str], category_ids: Sequence[int] | None = None
) -> Detector:
    """Builds an untrained detector for these classes; `category_ids`: their ids in results, None: 1 to C."""
    config = experiment.model
    check_count(config.num_classes, classes)
    net, head = build_backbone(config)
    freeze_stages(net, config.freeze_stages)
    neck, levels, strides, channels = build_maps(config, net)
    width, normalize = channels[levels[0]], Normalize(IMAGENET_MEAN, IMAGENET_STD)
    rpn = RPN(config.rpn, width, [strides[level] for level in levels], anchor_sizes(config, len(levels)))
    roi_strides = [strides[level] for level in (neck.roi_levels if neck else levels)]
    roi_heads = build_roi_heads(config, head, width, roi_strides, len(classes))
    category_ids = category_ids or range(1, len(classes) + 1)
    model = Detector(net, neck, levels, rpn, roi_heads, normalize, classes, category_ids, config.input)
    model.experiment = to_dict(experiment)
    return model


class Maps(NamedTuple):
    """Feature maps for the RPN and the RoI heads."""

    neck: Neck | None
    levels: list[str]  # of the RPN
    strides: Mapping[str, int]
    channels: Mapping[str, int]


def build_maps(config: DetectorConfig, net: Backbone) -> Maps:
    """Builds the neck on a backbone, for features fpn."""
    if config.features != "fpn":
        return Maps(None, [[*net.channels][-1]], net.strides, net.channels)
    neck = config.neck.build(net)
    return Maps(neck, list(neck.strides), neck.strides, neck.channels)


def build_backbone(config: DetectorConfig) -> tuple[Backbone, BoxHead | None]:
    """Builds the backbone and, if layers were moved out of it, the box head of these: conv5_x, or VGG's fc6 and fc7."""
    if config.features == "vgg":
        vgg = cast(VGG, config.backbone.build(num_classes=1))
        head = VGGHead(vgg.fc6, vgg.fc7, config.box.dropout)
        for name in ("fc6", "fc7", "fc"):
            setattr(vgg, name, None)
        return vgg, head
    net = config.backbone.build(num_classes=0)
    if config.features == "c4":
        width = net.channels["c5"]
        return net, Conv5Head(detach_last_stage(net), width)
    if config.features == "dc5":
        dilate_last_stage(net)
    return net, None


def anchor_sizes(config: DetectorConfig, levels: int) -> list[Sequence[float]]:
    sizes = config.rpn.anchors.sizes
    if sizes is None:
        return [SINGLE_LEVEL_SIZES] if levels == 1 else [[32 * 2**level] for level in range(levels)]
    if len(sizes) != levels or len({len(sides) for sides in sizes}) != 1:
        raise ConfigError(
            f"model.rpn.anchors.sizes has {len(sizes)} lists: give {levels} lists of equal length, one per level."
        )
    return [list(sides) for sides in sizes]


def build_roi_heads(
    config: DetectorConfig, backbone_head: BoxHead | None, channels: int, strides: list[int], classes: int
) -> RoIHeads:
    """Builds the RoI heads, with `backbone_head` (made of the backbone's layers) or, if None, registered box heads."""
    box = config.box
    conv5 = backbone_head if isinstance(backbone_head, Conv5Head) else None
    if backbone_head is not None and len(box.ious) > 1:
        raise ConfigError(
            f"model.box.ious has {len(box.ious)} entries: a cascade needs a head for each stage, "
            f"and features={config.features} has only one; use fpn or dc5."
        )
    size = box.resolution or (14 if conv5 else 7)
    if config.mnc is not None:
        return MNC(box, config.mnc, cast(Conv5Head, conv5), RoIWarp(strides[0], size), classes)
    if box.pool == "max" and len(strides) > 1:
        raise ConfigError("model.box.pool=max supports one feature level only: use align with fpn.")
    pooler = RoIPooler(strides, size, box.pool, box.sampling, box.aligned, box.canonical_size)
    heads = [backbone_head or build_box_head(box, channels, size) for _ in box.ious]
    shared = None if conv5 is None else Conv5Features(pooler, conv5)
    given = BranchInput(channels, strides, box.canonical_size, positive_count(box), classes, shared)
    return RoIHeads(box, heads, pooler, classes, build_branches(config, given))


def build_box_head(config: BoxConfig, channels: int, size: int) -> BoxHead:
    head = box_heads[config.head](config, channels, size)
    if not hasattr(head, "width"):
        raise ConfigError(
            f"model.box.head is {config.head}: a {type(head).__name__} has no `width`; set it to the number of outputs."
        )
    return head


def build_branches(config: DetectorConfig, given: BranchInput) -> dict[str, RoIBranch]:
    """Builds the registered branches that have a section in the config."""
    sections = {name: getattr(config, name, None) for name in roi_branches}
    return {name: roi_branches[name](section, given) for name, section in sections.items() if section is not None}
