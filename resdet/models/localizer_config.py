"""Config of localizers (appendix C); free of torch."""

from dataclasses import dataclass, field
from typing import Any, Literal

from resdet.errors import require
from resdet.heads.config import PerClassRPNConfig, is_share
from resdet.models.config import ModelConfig


@dataclass
class LocalizerConfig(ModelConfig):
    """The per-class RPN on the last feature map of a classification net: conv5_x of a ResNet, all of it fine-tuned."""

    pretrained: str | None = None  # of the backbone: a classifier's file, or `torchvision` for that library's
    rpn: PerClassRPNConfig = field(default_factory=PerClassRPNConfig)


@dataclass
class LocalizerRCNNConfig(ModelConfig):
    """R-CNN on the proposals of a per-class RPN: each is warped to a crop, scored and refined for its class."""

    pretrained: str | None = None
    # The checkpoint of the per-class RPN; an R-CNN's own checkpoint has the RPN inside, and its experiment here.
    proposer: str | dict[str, Any] | None = None
    cache: str | None = None  # folder of the training images' proposals; null: beside the proposer's checkpoint
    context: int = 16  # pixels of a warped region that show what is around it, on each side: R-CNN's choice
    positive_iou: float = 0.5  # a proposal from here on is positive, and its box is learnt; the others are negative
    positives: float = 0.5  # share of them in a batch
    beta: float = 1 / 9  # of the smooth L1 loss
    regions: int = 256  # at once, in tests

    def __post_init__(self):
        super().__post_init__()
        require(self.context >= 0, "model.context", self.context, "give a number of pixels, or 0 for none")
        for key in ("positive_iou", "positives"):
            require(is_share(getattr(self, key)), f"model.{key}", getattr(self, key), "it lies between 0 and 1")
        require(self.regions > 0, "model.regions", self.regions, "give one or more")


@dataclass
class LocatingConfig:
    """From scores and boxes of anchors to one box a class. The paper does not say how; what follows is our choice."""

    testing: Literal["centre", "dense"] = "centre"  # the central crop, or the whole image at each of the scales
    # Shorter sides. The paper names none; these lie within what training has shown (256 to 480).
    scales: list[int] = field(default_factory=lambda: [256, 320, 384, 480])
    candidates: int = 1000  # best boxes of each scale and class
    nms: float = 0.7  # among those of all scales, as in Faster R-CNN's RPN
    proposals: int = 200  # what is left of them for R-CNN
    # Boxes that overlap the best one so far are averaged with it, weighted by their scores (OverFeat and VGG merge
    # theirs too); null: the best one as it is.
    vote: float | None = 0.5

    def __post_init__(self):
        require(
            bool(self.scales) and min(self.scales) > 0, "eval.scales", list(self.scales), "list one or more in pixels"
        )
        require(
            0 < self.proposals <= self.candidates, "eval.proposals", self.proposals, "give 1 to eval.candidates of them"
        )
        require(is_share(self.nms), "eval.nms", self.nms, "an IoU lies between 0 and 1")
        require(self.vote is None or is_share(self.vote), "eval.vote", self.vote, "give an IoU from 0 to 1, or null")
