"""Config of the detection heads; imports no torch."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from resdet.backbones.config import Norm
from resdet.detection.heads.registry import box_heads, box_losses, class_losses, mask_heads
from resdet.errors import at_least, require
from resdet.weights import coco_keypoints


def is_share(value: float) -> bool:
    return 0 <= value <= 1


def check_score(score: float, key: str) -> None:
    """Validates the lowest score of detections."""
    require(0 <= score < 1, key, score, "give a value from 0 to below 1, such as 0.05")


@dataclass
class AnchorConfig:
    """Anchors of each size and ratio at each position of the feature maps (Faster R-CNN, section 3.1.1)."""

    sizes: list[list[float]] | None = None  # sides in pixels at ratio 1, one list per level; null: 32 to 512 (FPN)
    ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])  # height to width
    # torchvision: anchors are rounded to whole pixels, and the stride of a level is image side // map side;
    # torchvision's weights need this
    style: Literal["exact", "torchvision"] = "exact"

    def __post_init__(self):
        require(
            bool(self.ratios) and min(self.ratios) > 0,
            "model.rpn.anchors.ratios",
            list(self.ratios),
            "list positive ratios",
        )
        sizes = [side for level in self.sizes or [[1]] for side in level]
        require(
            bool(sizes) and min(sizes) > 0, "model.rpn.anchors.sizes", self.sizes, "list positive sides for each level"
        )


class Sampling(Protocol):
    """Keys of random sampling with a quota of positives."""

    batch_per_image: int
    positive_fraction: float


class AnchorSampling(Sampling, Protocol):
    """Keys of anchor sampling and the box loss, for the RPN and the per-class RPN."""

    positive_iou: float
    negative_iou: float
    beta: float


def positive_count(config: Sampling) -> int:
    """Returns the largest number of positive anchors or proposals sampled per image."""
    return int(config.batch_per_image * config.positive_fraction)


def check_sampling(config: AnchorSampling) -> None:
    """Validates the keys of anchor sampling."""
    require(
        0 <= config.negative_iou <= config.positive_iou <= 1,
        "model.rpn.negative_iou",
        config.negative_iou,
        "give an IoU from 0 to rpn.positive_iou",
    )
    require(
        config.batch_per_image > 0 and is_share(config.positive_fraction),
        "model.rpn.positive_fraction",
        config.positive_fraction,
        "give a share of rpn.batch_per_image, from 0 to 1",
    )
    at_least(0, config, "model.rpn", "beta")


@dataclass
class RPNConfig:
    """Region proposal network."""

    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    channels: int | None = None  # channels of the 3×3 convolution; null: those of the feature maps
    convs: int = 1  # number of 3×3 convolutions
    positive_iou: float = 0.7  # lowest IoU of a positive anchor with a box
    negative_iou: float = 0.3  # an anchor is negative below this IoU with all boxes
    batch_per_image: int = 256  # sampled anchors per image
    positive_fraction: float = 0.5  # largest share of positive anchors among the sampled ones, from 0 to 1
    beta: float = 1 / 9  # difference below which the smooth L1 loss is quadratic; 0: L1, detectron2's default
    # true: do not train on anchors that cross the image border, as in Faster R-CNN; false: train on them, as in FPN and
    # later detectors
    inside_only: bool = False
    pre_nms: tuple[int, int] = (2000, 1000)  # proposals per level before NMS, in training and in inference
    post_nms: tuple[int, int] = (1000, 1000)  # proposals per image after NMS, in training and in inference
    nms: float = 0.7  # IoU threshold of NMS
    min_size: float = 1e-3  # smallest side of a proposal, in pixels of the resized image

    def __post_init__(self):
        check_sampling(self)
        require(
            min(*self.pre_nms, *self.post_nms) > 0,
            "model.rpn.pre_nms",
            list(self.pre_nms),
            "give counts above 0",
        )
        require(is_share(self.nms), "model.rpn.nms", self.nms, "give an IoU from 0 to 1")
        at_least(1, self, "model.rpn", "convs", "channels")


@dataclass
class BoxConfig:
    """Fast R-CNN: RoI pooling, classification, box regression. More than one IoU makes it Cascade R-CNN."""

    pool: Literal["align", "max"] = "align"  # RoIAlign (Mask R-CNN), or max: RoIPool (the paper)
    resolution: int | None = None  # side of the pooled features; null: 14 with c4, otherwise 7
    sampling: int = 2  # RoIAlign's points per bin and axis; 0: one per pixel, detectron2's default
    aligned: bool = True  # RoIAlign's half-pixel offset; false in torchvision's detectors
    canonical_size: float = 224.0  # side in pixels of the RoIs assigned to stride 16 (FPN, eq. 1), also for masks
    convs: int = 0  # number of 3×3 convolutions before the linear layers
    conv_width: int = 256  # channels of these convolutions
    linears: int = 2  # number of linear layers
    width: int = 1024  # outputs of each linear layer
    norm: Norm | None = None  # norm of the convolutions; values as for `model.backbone.norm`; null: none
    dropout: float = 0.0  # features vgg: probability of dropout after fc6 and fc7, from 0 to below 1; VGG-16 has 0.5
    batch_per_image: int = 512  # sampled proposals per image
    positive_fraction: float = 0.25  # largest share of positive proposals among the sampled ones, from 0 to 1
    # lowest IoU of positive proposals, one per stage; more than one makes a cascade
    ious: list[float] = field(default_factory=lambda: [0.5])
    negative_iou: tuple[float, float] = (0.0, 0.5)  # IoU range of background in the first stage; Fast R-CNN: 0.1 to 0.5
    class_agnostic: bool = False  # one box per RoI for all classes
    # global context (appendix B): the box head (in C4 the same conv5_x) also computes a vector of the whole image, and
    # the predictor gets it concatenated to that of each RoI
    context: bool = False
    head: str = "conv_fc"  # conv_fc, or a registered box head, with fpn and dc5; c4 and vgg use layers of the backbone
    loss: str = "smooth_l1"  # smooth_l1, giou, diou, or a registered box loss
    class_loss: str = "cross_entropy"  # cross_entropy, or a registered class loss
    beta: float = 1 / 9  # difference below which the smooth L1 loss is quadratic; 0: L1, detectron2's default
    loss_weight: float = 1.0  # weight of the box loss; commonly 2 or more for GIoU
    candidates: int = 2000  # largest number of (RoI, class) pairs of an image before the final NMS
    score: float = 0.05  # score threshold of detections
    nms: float = 0.5  # IoU threshold of the final NMS, by class
    detections: int = 100  # largest number of detections of an image

    def __post_init__(self):
        box_heads.check(self.head)
        box_losses.check(self.loss)
        class_losses.check(self.class_loss)
        require(
            bool(self.ious) and all(is_share(iou) for iou in self.ious),
            "model.box.ious",
            list(self.ious),
            "list one IoU or more, from 0 to 1",
        )
        require(
            len(self.ious) == 1 or self.class_agnostic,
            "model.box.class_agnostic",
            self.class_agnostic,
            "a cascade needs one box per RoI: set it to true",
        )
        require(
            self.batch_per_image > 0 and is_share(self.positive_fraction),
            "model.box.positive_fraction",
            self.positive_fraction,
            "give a share of box.batch_per_image, from 0 to 1",
        )
        require(
            0 <= self.negative_iou[0] < self.negative_iou[1] <= 1,
            "model.box.negative_iou",
            list(self.negative_iou),
            "give two IoUs, the lower one first",
        )
        require(
            self.sampling >= 0,
            "model.box.sampling",
            self.sampling,
            "give a number of points, or 0 for one per pixel",
        )
        require(is_share(self.nms), "model.box.nms", self.nms, "give an IoU from 0 to 1")
        check_score(self.score, "model.box.score")
        at_least(0, self, "model.box", "beta", "convs", "linears")
        at_least(1, self, "model.box", "conv_width", "width", "resolution")
        require(
            self.canonical_size > 0,
            "model.box.canonical_size",
            self.canonical_size,
            "give a side in pixels of the resized image",
        )
        require(
            self.detections > 0 and self.candidates >= self.detections,
            "model.box.candidates",
            self.candidates,
            "give box.detections or more",
        )
        require(0 <= self.dropout < 1, "model.box.dropout", self.dropout, "give a share from 0 to below 1")


@dataclass
class MaskConfig:
    """Mask branch (Mask R-CNN). With features c4 it follows conv5_x and has no 3×3 convolutions."""

    head: str = "conv"  # conv, or a registered mask head
    resolution: int = 14  # side of the pooled features; masks have twice this side
    sampling: int = 2  # as `model.box.sampling`
    aligned: bool = True  # as `model.box.aligned`
    convs: int = 4  # number of 3×3 convolutions; none with features c4
    width: int = 256  # channels of these convolutions
    norm: Norm | None = None  # norm of the convolutions; values as for `model.backbone.norm`; null: none
    regions: int = 64  # positive RoIs in the mask loss, per image on average over the batch
    loss_weight: float = 1.0  # weight of the mask loss

    def __post_init__(self):
        mask_heads.check(self.head)
        at_least(0, self, "model.mask", "convs", "sampling")
        at_least(1, self, "model.mask", "resolution", "width", "regions")


@dataclass
class KeypointConfig:
    """Keypoint branch (Mask R-CNN, section 5), one for all classes; with features fpn, dc5 or vgg."""

    names: list[str] | None = None  # names of the keypoints; null: those of the data, or COCO's 17 if there is no data
    # pairs of keypoints that drawings connect, counted from 0; null: those of the data
    skeleton: list[tuple[int, int]] | None = None
    resolution: int = 14  # side of the pooled features; heatmaps have four times this side
    sampling: int = 2  # as `model.box.sampling`
    aligned: bool = True  # as `model.box.aligned`
    convs: int = 8  # number of 3×3 convolutions
    width: int = 512  # channels of these convolutions
    norm: Norm | None = None  # norm of the convolutions; values as for `model.backbone.norm`; null: none
    regions: int = 64  # as `model.mask.regions`, in the keypoint loss
    loss_weight: float = 1.0  # weight of the keypoint loss

    def __post_init__(self):
        names = self.keypoint_names
        distinct = len(names) > 0 and len(set(names)) == len(names)
        require(distinct, "model.keypoint.names", self.names, "list one name or more, each once")
        ends = [end for pair in self.skeleton or () for end in pair]
        known = all(0 <= end < len(names) for end in ends)
        require(known, "model.keypoint.skeleton", self.skeleton, f"list pairs of numbers from 0 to {len(names) - 1}")
        at_least(0, self, "model.keypoint", "convs", "sampling")
        at_least(1, self, "model.keypoint", "resolution", "width", "regions")

    @property
    def keypoint_names(self) -> list[str]:
        return coco_keypoints.NAMES if self.names is None else self.names

    @property
    def limbs(self) -> list[tuple[int, int]]:
        """The skeleton; COCO's person skeleton by default."""
        if self.skeleton is None:
            return coco_keypoints.SKELETON if self.keypoint_names == coco_keypoints.NAMES else []
        return self.skeleton


@dataclass
class MNCConfig:
    """Multi-task Network Cascades (1512.04412): masks, then classes from masked features, both twice."""

    resolution: int = 28  # side of the masks, which are class-agnostic
    width: int = 256  # outputs of the first linear layer of the mask head
    positive_iou: float = 0.5  # lowest mask IoU of a positive instance, from 0 to 1; its box must also be positive
    loss_weight: float = 1.0  # weight of the mask loss

    def __post_init__(self):
        at_least(1, self, "model.mnc", "resolution", "width")
        require(is_share(self.positive_iou), "model.mnc.positive_iou", self.positive_iou, "give an IoU from 0 to 1")
