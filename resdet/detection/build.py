"""Puts a detector together from its config: which features, which heads."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from resdet.backbones import registry
from resdet.backbones.layers import Backbone
from resdet.backbones.surgery import detach_last_stage, dilate_last_stage, freeze_stages
from resdet.config.experiment import check_count, to_dict
from resdet.detection.config import DetectionExperiment, DetectorConfig
from resdet.detection.heads.box_head import Conv5Head, RoIPooler, VGGHead
from resdet.detection.heads.mnc import MNC, Warper
from resdet.detection.heads.registry import box_heads, mask_heads
from resdet.detection.heads.roi_heads import RoIHeads
from resdet.detection.heads.rpn import RPN
from resdet.detection.model import Detector
from resdet.errors import ConfigError
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD

SINGLE_LEVEL_SIZES = (32, 64, 128, 256, 512)


def build_detector(experiment: DetectionExperiment, classes: Sequence[str], category_ids: Sequence[int]) -> Detector:
    """The detector of an experiment, for these classes, which its results call by these ids."""
    check_count(experiment.model.num_classes, classes)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    model = build_from_config(experiment.model, classes, category_ids, normalize)
    model.experiment = to_dict(experiment)
    return model


def build_from_config(
    config: DetectorConfig, classes: Sequence[str], category_ids: Sequence[int], normalize: Normalize
) -> Detector:
    """An untrained detector."""
    net, heads = build_backbone(config)
    freeze_stages(net, config.freeze_stages)
    neck = config.neck.build(net) if config.features == "fpn" else None
    levels = list(neck.strides) if neck else [[*net.channels][-1]]
    strides, channels = (neck.strides, neck.channels) if neck else (net.strides, net.channels)
    rpn = RPN(config.rpn, channels[levels[0]], [strides[level] for level in levels], anchor_sizes(config, len(levels)))
    roi_levels = neck.roi_levels if neck else levels
    regions = build_roi_heads(
        config, heads, channels[levels[0]], [strides[level] for level in roi_levels], len(classes)
    )
    return Detector(net, neck, levels, rpn, regions, normalize, classes, category_ids, config.input)


def build_backbone(config: DetectorConfig) -> tuple[Backbone, list[nn.Module]]:
    """The net up to its feature maps, and the box head that it gives away: conv5_x, or VGG's fc6 and fc7."""
    if config.features == "vgg":
        net = registry.build(config.backbone, num_classes=1)
        head = VGGHead(net.fc6, net.fc7, config.box.dropout)
        net.fc6 = net.fc7 = net.fc = None
        return net, [head]
    net = registry.build(config.backbone, num_classes=0)
    if config.features == "c4":
        width = net.channels["c5"]
        return net, [Conv5Head(detach_last_stage(net), width)]
    if config.features == "dc5":
        dilate_last_stage(net)
    return net, []


def anchor_sizes(config: DetectorConfig, levels: int) -> list[Sequence[float]]:
    given = config.rpn.anchors.sizes
    if given is None:
        return [SINGLE_LEVEL_SIZES] if levels == 1 else [[32 * 2**level] for level in range(levels)]
    if len(given) != levels or len({len(sides) for sides in given}) != 1:
        raise ConfigError(
            f"model.rpn.anchors.sizes has {len(given)} lists: give one for each of the {levels} levels, of one length."
        )
    return [list(sides) for sides in given]


def build_roi_heads(
    config: DetectorConfig, taken: list[nn.Module], channels: int, strides: list[int], classes: int
) -> RoIHeads:
    """`taken` is the head that the backbone gave away, if any; otherwise linear heads are made."""
    box, mask = config.box, config.mask
    conv5 = bool(taken) and isinstance(taken[0], Conv5Head)
    if taken and len(box.ious) > 1:
        raise ConfigError(
            f"model.box.ious has {len(box.ious)} entries: a cascade has a head for each stage, "
            f"and features={config.features} has but one to give; use fpn or dc5."
        )
    size = box.resolution or (14 if conv5 else 7)
    if config.mnc is not None:
        return MNC(box, config.mnc, taken[0], Warper(strides[0], size), classes)
    if box.pool == "max" and len(strides) > 1:
        raise ConfigError("model.box.pool=max is for one level of features: use align with fpn.")
    pooler = RoIPooler(strides, size, box.pool, box.sampling, box.aligned, box.canonical_size)
    heads = taken or [box_heads[box.head](box, channels, size) for _ in box.ious]
    if mask is None:
        return RoIHeads(box, heads, pooler, classes)
    mask_pooler: RoIPooler | None = None
    if not conv5:
        mask_pooler = RoIPooler(strides, mask.resolution, "align", mask.sampling, mask.aligned, box.canonical_size)
    if conv5:
        mask_head = mask_heads[mask.head](replace(mask, convs=0), heads[0].width, classes)
    else:
        mask_head = mask_heads[mask.head](mask, channels, classes)
    return RoIHeads(box, heads, pooler, classes, mask, mask_head, mask_pooler)
