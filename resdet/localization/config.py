"""Config of localization (appendix C); free of torch."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from resdet.config.experiment import EvalConfig, Experiment, ModelConfig
from resdet.data.config import DataConfig
from resdet.detection.heads.config import check_sampling, is_share
from resdet.errors import ConfigError, require
from resdet.localization.data.config import IlsvrcLocConfig, LocalizationConfig


@dataclass
class PerClassRPNConfig:
    """The region proposal network of appendix C, with scores and boxes of each class."""

    # The paper names no sizes: a quarter, a half and the whole of a crop of 224 pixels, at Faster R-CNN's ratios.
    sizes: list[float] = field(default_factory=lambda: [56.0, 112.0, 224.0])
    ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])  # height to width
    channels: int | None = 512  # of the 3×3 layer; null: as many as the features have
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    batch_per_image: int = 8  # anchors of an image that are learned from
    positive_fraction: float = 0.5  # share of them at the most
    beta: float = 1 / 9  # of the smooth L1 loss

    def __post_init__(self):
        for key in ("sizes", "ratios"):
            values = getattr(self, key)
            require(bool(values) and min(values) > 0, f"model.rpn.{key}", list(values), "list positive ones")
        check_sampling(self)


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
    positive_iou: float = 0.5  # a proposal from here on is positive, and its box is learned; the others are negative
    positive_fraction: float = 0.5  # share of them in a batch
    beta: float = 1 / 9  # of the smooth L1 loss
    regions: int = 256  # at once, in tests

    def __post_init__(self):
        super().__post_init__()
        require(self.context >= 0, "model.context", self.context, "give a number of pixels, or 0 for none")
        for key in ("positive_iou", "positive_fraction"):
            require(is_share(getattr(self, key)), f"model.{key}", getattr(self, key), "it lies between 0 and 1")
        require(self.regions > 0, "model.regions", self.regions, "give one or more")

    def for_checkpoint(self) -> ModelConfig:
        if isinstance(self.proposer, str):
            raise ConfigError("model.proposer is a path, and a file holds its proposer itself: it is damaged.")
        return super().for_checkpoint()


@dataclass
class LocateConfig:
    """From scores and boxes of anchors to one box a class. The paper does not say how; what follows is our choice."""

    testing: Literal["center", "dense"] = "center"  # the central crop, or the whole image at each of the scales
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


@dataclass
class LocalizationEvalConfig(LocateConfig, EvalConfig):
    """Evaluation of a localizer (appendix C, Table 13)."""

    batch: int = 64  # central crops at once, on each process; whole images come one by one
    losses: bool = True  # during training the validation losses as well
    # How `resdet evaluate --classifier` shows images to the net that predicts their classes.
    classifier_views: Literal["center", "ten_crop", "dense"] = "center"

    def __post_init__(self):
        LocateConfig.__post_init__(self)
        EvalConfig.__post_init__(self)


@dataclass
class LocalizationExperiment(Experiment):
    """A per-class RPN that says where the class of an image is (appendix C)."""

    task: Literal["localization"] = "localization"
    model: LocalizerConfig = field(default_factory=LocalizerConfig)
    data: DataConfig = field(default_factory=lambda: IlsvrcLocConfig("ilsvrc_loc"))
    eval: LocalizationEvalConfig = field(default_factory=LocalizationEvalConfig)

    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (LocalizationConfig,)


@dataclass
class LocalizationRCNNExperiment(Experiment):
    """The R-CNN on its proposals (appendix C)."""

    task: Literal["localization_rcnn"] = "localization_rcnn"
    model: LocalizerRCNNConfig = field(default_factory=LocalizerRCNNConfig)
    data: DataConfig = field(default_factory=lambda: IlsvrcLocConfig("ilsvrc_loc"))
    eval: LocalizationEvalConfig = field(default_factory=LocalizationEvalConfig)

    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (LocalizationConfig,)

    def check(self) -> None:
        super().check()
        size, context = self.data.size, self.model.context
        remedy = f"on both sides of a box in data.size={size} pixels; give less than half of them"
        require(2 * context < size, "model.context", context, remedy)
