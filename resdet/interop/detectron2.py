"""resdet inside detectron2: backbones in its registry, and detectors as a meta-architecture.

    from resdet.interop import detectron2 as guest

    config = detectron2.config.get_cfg()
    guest.add_config(config)

A backbone for detectron2's heads, with detectron2's keys FREEZE_AT, RESNETS.NORM, STRIDE_IN_1X1 and OUT_FEATURES:

    MODEL: {BACKBONE: {NAME: build_resdet_fpn_backbone}, RESDET: {BACKBONE: resnet34}}

A whole detector, defined by a resdet config; of the other MODEL keys, only NUM_CLASSES is read:

    MODEL: {META_ARCHITECTURE: ResdetDetector, RESDET: {CONFIG: coco_r50_fpn.yaml}}
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from resdet import config as configs
from resdet import hub
from resdet.backbones import config as families
from resdet.backbones import registry, surgery
from resdet.backbones.layers import Backbone as ResdetNet
from resdet.detection.config import DetectionExperiment
from resdet.detection.inference.predictor import pad, results_of
from resdet.detection.model import Detector
from resdet.errors import ConfigError, Error
from resdet.interop.detectron2_keys import NORMS
from resdet.results.result import Result
from resdet.structures import Images, Targets
from resdet.weights import load_weights, pretrained

try:
    from detectron2.config import CfgNode
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
    from detectron2.modeling.backbone import FPN, Backbone
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.structures import Boxes, Instances
except ImportError as error:
    raise Error(
        f"resdet.interop.detectron2 needs detectron2 ({error}), which is not on PyPI: install it from source as in its "
        "INSTALL.md."
    ) from None

KEYS = {
    "BACKBONE": "resnet50",  # any name of `resdet nets`, or timm/<name>
    "OPTIONS": [],  # backbone options, key=value
    "CONFIG": "",  # detector config: a file, or a name in configs/
    "OVERRIDES": [],  # config overrides, section.key=value
    "WEIGHTS": "",  # file in any layout that resdet reads; MODEL.WEIGHTS is for detectron2's checkpoints
}


def add_config(config: CfgNode) -> None:
    """Adds the keys of MODEL.RESDET; call it before merging a YAML file that uses them."""
    config.MODEL.RESDET = CfgNode(KEYS)


def keys_of(config: CfgNode) -> CfgNode:
    if "RESDET" not in config.MODEL:
        raise ConfigError("The config has no MODEL.RESDET: call resdet.interop.detectron2.add_config(config) first.")
    return config.MODEL.RESDET


# Backbones


class ResdetBackbone(Backbone):
    """A resdet backbone without the stages after the last requested feature; c2 to c5 are named res2 to res5."""

    def __init__(self, net: ResdetNet, features: list[str]):
        super().__init__()
        self.levels = {name: name.replace("res", "c") for name in features}
        unknown = [name for name, level in self.levels.items() if level not in net.strides]
        if unknown:
            known = ", ".join(level.replace("c", "res") for level in net.strides)
            raise ConfigError(f"MODEL.RESNETS.OUT_FEATURES contains {unknown[0]}: this net has {known}.")
        order = list(net.strides)
        self.deepest = max(self.levels.values(), key=order.index)
        while net.stages and [*net.stages][-1] != self.deepest:
            surgery.detach_last_stage(net)
        self.net = net

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.net.features(x, upto=self.deepest)
        return {name: maps[level] for name, level in self.levels.items()}

    def output_shape(self) -> dict[str, ShapeSpec]:
        net = self.net
        return {n: ShapeSpec(channels=net.channels[c], stride=net.strides[c]) for n, c in self.levels.items()}

    @property
    def size_divisibility(self) -> int:
        return self.net.strides[self.deepest]


@BACKBONE_REGISTRY.register()
def build_resdet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResdetBackbone:
    """Builds MODEL.RESDET.BACKBONE with the weights MODEL.RESDET.WEIGHTS."""
    keys, resnets = keys_of(cfg), cfg.MODEL.RESNETS
    options = {"norm": NORMS[resnets.NORM], "stride_in": "1x1" if resnets.STRIDE_IN_1X1 else "3x3"}
    known = families.family(keys.BACKBONE).__dataclass_fields__
    options = {key: value for key, value in options.items() if key in known}
    net = registry.create(keys.BACKBONE, 0, **options | dict(map(configs.parse_override, keys.OPTIONS)))
    if keys.WEIGHTS:
        load_weights.load(net, keys.WEIGHTS, new_classifier=True)  # ignores a classifier in the file
    surgery.freeze_stages(net, cfg.MODEL.BACKBONE.FREEZE_AT)
    if resnets.RES5_DILATION == 2:
        surgery.dilate_last_stage(net)
    return ResdetBackbone(net, list(resnets.OUT_FEATURES))


@BACKBONE_REGISTRY.register()
def build_resdet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Builds detectron2's pyramid on top of `build_resdet_backbone`."""
    return FPN(
        bottom_up=build_resdet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


# Detectors


@META_ARCH_REGISTRY.register()
class ResdetDetector(nn.Module):
    """The detector of MODEL.RESDET.CONFIG with detectron2's interface: lists of dicts, Instances, `loss_…`"""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        keys = keys_of(cfg)
        if not keys.CONFIG:
            raise ConfigError("MODEL.RESDET.CONFIG is empty: give a config of resdet, such as coco_r50_fpn.yaml.")
        overrides = (f"model.num_classes={cfg.MODEL.ROI_HEADS.NUM_CLASSES}", *keys.OVERRIDES)
        experiment = cast(DetectionExperiment, configs.load(keys.CONFIG, *overrides))
        self.detector = cast(Detector, hub.build(experiment))
        self.mask_size = experiment.scenes.mask_size if self.detector.draws_masks else None
        self.bgr = cfg.INPUT.FORMAT == "BGR"
        if keys.WEIGHTS:
            load_weights.load(self.detector, keys.WEIGHTS, new_classifier=True)
        elif experiment.model.pretrained:
            pretrained.load(self.detector, experiment.model.pretrained, experiment.model.backbone.name)

    @property
    def device(self) -> torch.device:
        return self.detector.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Returns losses in training mode, otherwise detections scaled to the `height` and `width` of each input."""
        images = self.images(batched_inputs)
        if self.training:
            instances = [entry["instances"].to(self.device) for entry in batched_inputs]
            losses = self.detector.losses(images, targets_of(instances, self.mask_size, self.detector.keypoint_count))
            return {f"loss_{name}": value for name, value in losses.items()}
        with torch.no_grad():
            sizes = [
                (entry.get("height", h), entry.get("width", w)) for entry, (h, w) in zip(batched_inputs, sides(images))
            ]
            return [{"instances": instances_of(result)} for result in results_of(self.detector, images, sizes)]

    def images(self, batched_inputs: list[dict[str, Any]]) -> Images:
        pixels = [entry["image"].to(self.device) for entry in batched_inputs]
        pixels = [image.flip(0) if self.bgr else image for image in pixels]
        batch = pad([image.permute(1, 2, 0) for image in pixels], self.detector.input.divisor)
        return Images(batch.pixels, batch.sizes.to(self.device))


def sides(images: Images) -> list[tuple[int, int]]:
    return [(int(height), int(width)) for height, width in images.sizes.tolist()]


def targets_of(instances: list[Instances], mask_size: int | None, points: int | None) -> Targets:
    """Pads objects to the largest number in an image; detectron2's mapper has already removed crowds.

    `mask_size` and `points` (the number of keypoints) come from the detector, since images without objects lack them.
    """
    length = max(map(len, instances))
    shape, device = (len(instances), length), instances[0].gt_boxes.device
    boxes, labels = torch.zeros(*shape, 4, device=device), torch.zeros(shape, dtype=torch.int64, device=device)
    counts = torch.tensor([len(of_image) for of_image in instances], device=device)
    valid = torch.arange(length, device=device) < counts[:, None]
    masks = torch.zeros(*shape, mask_size, mask_size, dtype=torch.uint8, device=device) if mask_size else None
    keypoints = torch.zeros(*shape, points, 3, device=device) if points else None
    for i, of_image in enumerate(instances):
        count = len(of_image)
        boxes[i, :count], labels[i, :count] = of_image.gt_boxes.tensor, of_image.gt_classes
        if count and masks is not None:
            masks[i, :count] = 255 * of_image.gt_masks.crop_and_resize(of_image.gt_boxes.tensor, mask_size)
        if count and keypoints is not None:
            keypoints[i, :count] = of_image.gt_keypoints.tensor
    return Targets(boxes, labels, valid, torch.zeros_like(valid), masks, keypoints)


def instances_of(result: Result) -> Instances:
    instances = Instances(result.size)
    instances.pred_boxes = Boxes(torch.from_numpy(result.boxes))
    instances.scores = torch.from_numpy(result.scores)
    instances.pred_classes = torch.from_numpy(result.labels)
    if result.masks is not None:
        instances.pred_masks = torch.from_numpy(result.masks)
    if result.keypoints is not None:
        instances.pred_keypoints = torch.from_numpy(result.keypoints)
    return instances
