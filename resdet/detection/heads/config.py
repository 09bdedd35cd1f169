"""Config of the heads of a detector; free of torch."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from resdet.backbones.config import Norm
from resdet.detection.heads.registry import box_heads, box_losses, class_losses, mask_heads
from resdet.errors import require


def is_share(value: float) -> bool:
    return 0 <= value <= 1


@dataclass
class AnchorConfig:
    """Boxes at every position of every feature map, of each size and each ratio (Faster R-CNN, section 3.1.1)."""

    sizes: list[list[float]] | None = None  # sides at ratio 1, a list for each level; null: 32 to 512, as FPN has them
    ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])  # height to width
    # torchvision rounds the boxes to whole pixels and takes the image's side divided by the map's, rounded down, for
    # the stride of a level. Weights that were trained so need it.
    style: Literal["exact", "torchvision"] = "exact"

    def __post_init__(self):
        require(
            bool(self.ratios) and min(self.ratios) > 0,
            "model.rpn.anchors.ratios",
            list(self.ratios),
            "list positive ones",
        )
        sizes = [side for level in self.sizes or [[1]] for side in level]
        require(
            bool(sizes) and min(sizes) > 0, "model.rpn.anchors.sizes", self.sizes, "list positive sides for each level"
        )


class AnchorSampling(Protocol):
    """Which anchors of an image a region proposal network is trained on, and its box loss."""

    positive_iou: float
    negative_iou: float
    batch_per_image: int
    positive_fraction: float
    beta: float


def check_sampling(config: AnchorSampling) -> None:
    """Checks which anchors a region proposal network is trained on."""
    require(
        0 <= config.negative_iou <= config.positive_iou <= 1,
        "model.rpn.negative_iou",
        config.negative_iou,
        "it lies between 0 and rpn.positive_iou",
    )
    require(
        config.batch_per_image > 0 and is_share(config.positive_fraction),
        "model.rpn.positive_fraction",
        config.positive_fraction,
        "it is a share of rpn.batch_per_image, from 0 to 1",
    )


@dataclass
class RPNConfig:
    """The region proposal network."""

    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    channels: int | None = None  # of its 3×3 layer; null: as many as the features have
    convs: int = 1
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    batch_per_image: int = 256  # anchors of an image that are learned from
    positive_fraction: float = 0.5  # share of them at the most
    beta: float = 1 / 9  # of the smooth L1 loss; 0 is L1, as detectron2 has it
    # Faster R-CNN leaves out anchors that cross the image's border in training; FPN and all after it keep them.
    inside_only: bool = False
    pre_nms: tuple[int, int] = (2000, 1000)  # proposals of each level before suppression: to train, to test
    post_nms: tuple[int, int] = (1000, 1000)  # and of the image after it
    nms: float = 0.7
    min_size: float = 1e-3  # smaller proposals, in pixels of the resized image, are dropped

    def __post_init__(self):
        check_sampling(self)
        require(
            min(*self.pre_nms, *self.post_nms) > 0,
            "model.rpn.pre_nms",
            list(self.pre_nms),
            "these are counts above zero",
        )
        require(is_share(self.nms), "model.rpn.nms", self.nms, "an IoU lies between 0 and 1")


@dataclass
class BoxConfig:
    """The Fast R-CNN part: region features, classification, box regression. Several IoUs make a Cascade R-CNN."""

    pool: Literal["align", "max"] = "align"  # RoIAlign (Mask R-CNN), or RoIPool, the paper's
    resolution: int | None = None  # of pooled features; null: 14 before conv5_x, 7 otherwise
    sampling: int = 2  # RoIAlign's points a bin and axis; 0: as many as pixels, detectron2's choice
    aligned: bool = True  # RoIAlign's half-pixel correction; torchvision's detectors are without
    canonical_size: float = 224.0  # side of the regions that suit stride 16 (FPN, eq. 1), for masks too
    convs: int = 0  # 3×3 layers before the linear ones
    conv_width: int = 256
    linears: int = 2
    width: int = 1024
    norm: Norm | None = None  # of the convs
    dropout: float = 0.0  # VGG-16's 0.5
    batch_per_image: int = 512  # regions of an image that are learned from
    positive_fraction: float = 0.25  # share of them at the most
    ious: list[float] = field(default_factory=lambda: [0.5])  # a region is positive from here on; one entry a stage
    negative_iou: tuple[float, float] = (0.0, 0.5)  # first stage: background from … to …; Fast R-CNN's starts at 0.1
    class_agnostic: bool = False  # one box a region for all classes
    # Global context (appendix B): the whole image goes through the box head like a region (in C4 through the same
    # conv5_x), and its vector stands beside that of each region when classes and boxes are told.
    context: bool = False
    head: str = "conv_fc"  # with features fpn and dc5: a registered box head; c4 and vgg have the backbone's layers
    loss: str = "smooth_l1"  # smooth_l1, giou, diou, or a registered box loss
    class_loss: str = "cross_entropy"  # or a registered class loss
    beta: float = 1 / 9  # of the smooth L1 loss; 0 is L1, as detectron2 has it
    loss_weight: float = 1.0  # of the box loss; GIoU's is commonly 2 and more
    candidates: int = 2000  # at most so many (region, class) pairs of an image enter the last suppression
    score: float = 0.05
    nms: float = 0.5
    detections: int = 100

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
            "a cascade refines one box a region: set it to true",
        )
        require(
            self.batch_per_image > 0 and is_share(self.positive_fraction),
            "model.box.positive_fraction",
            self.positive_fraction,
            "it is a share of box.batch_per_image, from 0 to 1",
        )
        require(
            0 <= self.negative_iou[0] < self.negative_iou[1] <= 1,
            "model.box.negative_iou",
            list(self.negative_iou),
            "give two IoUs, the smaller first",
        )
        require(
            self.sampling >= 0,
            "model.box.sampling",
            self.sampling,
            "give a number of points, or 0 for as many as needed",
        )
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
        require(0 <= self.dropout < 1, "model.box.dropout", self.dropout, "it lies between 0 and 1")


@dataclass
class MaskConfig:
    """Mask R-CNN's third branch. After conv5_x (C4, DC5's box head apart) it has no convolutions of its own."""

    head: str = "conv"  # or a registered mask head
    resolution: int = 14  # of pooled features; masks have twice as many pixels a side
    sampling: int = 2
    aligned: bool = True
    convs: int = 4
    width: int = 256
    norm: Norm | None = None
    regions: int = 128  # positive regions of an image that are learned from, at the most; the masks are half the work
    loss_weight: float = 1.0

    def __post_init__(self):
        mask_heads.check(self.head)
        require(self.resolution > 0, "model.mask.resolution", self.resolution, "give a number of pixels")
        require(self.regions > 0, "model.mask.regions", self.regions, "give 1 or more")


@dataclass
class MNCConfig:
    """Multi-task Network Cascades (1512.04412): masks first, then the classes of what they show, both twice."""

    resolution: int = 28  # of the masks, which are the same for all classes
    width: int = 256  # of the layers that draw them
    positive_iou: float = 0.5  # what a mask shows is an object from here on, if its box is positive as well
    loss_weight: float = 1.0  # of the mask loss

    def __post_init__(self):
        for key in ("resolution", "width"):
            require(getattr(self, key) > 0, f"model.mnc.{key}", getattr(self, key), "give 1 or more")
        require(is_share(self.positive_iou), "model.mnc.positive_iou", self.positive_iou, "an IoU lies between 0 and 1")
