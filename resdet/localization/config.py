"""Localization config (appendix C); does not import torch."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

from resdet.config.experiment import EvalConfig, Experiment, ModelConfig
from resdet.data.config import DataConfig
from resdet.detection.heads.config import check_sampling, is_share
from resdet.errors import ConfigError, at_least, require
from resdet.localization.data.config import IlsvrcLocConfig, LocalizationConfig


@dataclass
class PerClassRPNConfig:
    """The region proposal network of appendix C, with scores and boxes for each class."""

    # sides of the anchors in pixels, at ratio 1. The paper gives none: these are 1/4, 1/2 and 1 of a crop of 224 pixels
    sizes: list[float] = field(default_factory=lambda: [56.0, 112.0, 224.0])
    # height to width of the anchors; Faster R-CNN's
    ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    channels: int | None = 512  # channels of the 3×3 layer; null: those of the features
    positive_iou: float = 0.7  # lowest IoU of a positive anchor with a box
    negative_iou: float = 0.3  # an anchor is negative below this IoU with all boxes
    batch_per_image: int = 8  # sampled anchors per image
    positive_fraction: float = 0.5  # largest share of positive anchors among the sampled ones, from 0 to 1
    beta: float = 1 / 9  # difference below which the smooth L1 loss is quadratic; 0: L1

    def __post_init__(self):
        for key in ("sizes", "ratios"):
            values = getattr(self, key)
            require(bool(values) and min(values) > 0, f"model.rpn.{key}", list(values), "list positive numbers")
        check_sampling(self)


@dataclass
class LocalizerConfig(ModelConfig):
    """The per-class RPN on the last feature map of a classification net, conv5_x of a ResNet; all is fine-tuned."""

    pretrained: str | None = None  # backbone weights: a classifier's file, or `torchvision`; null: random
    rpn: PerClassRPNConfig = field(default_factory=PerClassRPNConfig)


@dataclass
class LocalizerRCNNConfig(ModelConfig):
    """R-CNN on the proposals of a per-class RPN: warps each proposal, scores and refines it for its class."""

    pretrained: str | None = None  # backbone weights: a classifier's file, or `torchvision`; null: random
    # checkpoint of the per-class RPN; the checkpoint of an R-CNN contains the RPN, and its experiment here
    proposer: str | dict[str, Any] | None = None
    cache: str | None = None  # folder for the proposals of the training images; null: next to the proposer
    context: int = 16  # pixels of context on each side of a warped region, as in R-CNN
    positive_iou: float = 0.5  # lowest IoU of a positive proposal; the others are negative
    positive_fraction: float = 0.5  # share of positive samples in a batch, from 0 to 1
    beta: float = 1 / 9  # difference below which the smooth L1 loss is quadratic; 0: L1
    regions: int = 256  # regions per forward pass, in evaluation

    def __post_init__(self):
        super().__post_init__()
        require(self.context >= 0, "model.context", self.context, "give a number of pixels, or 0 for none")
        for key in ("positive_iou", "positive_fraction"):
            require(is_share(getattr(self, key)), f"model.{key}", getattr(self, key), "it lies between 0 and 1")
        at_least(0, self, "model", "beta")
        require(self.regions > 0, "model.regions", self.regions, "give one or more")

    def for_checkpoint(self) -> ModelConfig:
        if isinstance(self.proposer, str):
            raise ConfigError(
                "model.proposer is a path, but a checkpoint contains its proposer: train the R-CNN again."
            )
        return super().for_checkpoint()


@dataclass
class LocateConfig:
    """Selection of one box per class from the anchors' scores and boxes; the paper does not specify it."""

    testing: Literal["center", "dense"] = "center"  # the center crop, or the whole image at each scale
    # shorter sides in pixels. The paper gives none; these are within the range of training (256 to 480)
    scales: list[int] = field(default_factory=lambda: [256, 320, 384, 480])
    candidates: int = 1000  # best boxes per scale and class before NMS
    nms: float = 0.7  # IoU threshold of NMS over all scales, as in Faster R-CNN's RPN
    proposals: int = 200  # proposals after NMS, for R-CNN
    # box voting: IoU from which boxes are averaged with the best one, weighted by score (OverFeat and VGG merge boxes
    # too); null: no voting
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


@dataclass
class LocalizationEvalConfig(LocateConfig, EvalConfig):
    """Config of a localizer's evaluation (appendix C, Table 13)."""

    batch: int = 64  # center crops per forward pass and process; whole images run one by one
    losses: bool = True  # compute validation losses during training
    # test crops of the classifier of `resdet evaluate --classifier`
    classifier_views: Literal["center", "ten_crop", "dense"] = "center"

    def __post_init__(self):
        LocateConfig.__post_init__(self)
        EvalConfig.__post_init__(self)


@dataclass
class LocalizationExperiment(Experiment):
    """Training and evaluation of a per-class RPN, which localizes a given class (appendix C)."""

    task: Literal["localization"] = "localization"
    model: LocalizerConfig = field(default_factory=LocalizerConfig)
    data: DataConfig = field(default_factory=lambda: IlsvrcLocConfig("ilsvrc_loc"))
    eval: LocalizationEvalConfig = field(default_factory=LocalizationEvalConfig)

    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (LocalizationConfig,)


@dataclass
class LocalizationRCNNExperiment(Experiment):
    """Training and evaluation of an R-CNN on the RPN's proposals (appendix C)."""

    task: Literal["localization_rcnn"] = "localization_rcnn"
    model: LocalizerRCNNConfig = field(default_factory=LocalizerRCNNConfig)
    data: DataConfig = field(default_factory=lambda: IlsvrcLocConfig("ilsvrc_loc"))
    eval: LocalizationEvalConfig = field(default_factory=LocalizationEvalConfig)

    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (LocalizationConfig,)

    def check(self) -> None:
        super().check()
        size, context = cast(LocalizationConfig, self.data).size, self.model.context
        remedy = f"it applies to both sides; give less than half of data.size, which is {size}"
        require(2 * context < size, "model.context", context, remedy)


LocalizerExperiment = LocalizationExperiment | LocalizationRCNNExperiment
