"""Config of detection; imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

from resdet.backbones.config import PlainConfig, ResNetConfig
from resdet.config.experiment import EvalConfig, Experiment, ModelConfig
from resdet.data.config import DataConfig
from resdet.detection.data.config import CocoConfig, ScenesConfig
from resdet.detection.evaluation.protocols import evaluators
from resdet.detection.heads.config import BoxConfig, KeypointConfig, MaskConfig, MNCConfig, RPNConfig
from resdet.detection.inference.config import TTAConfig
from resdet.engine.config import check_milestones
from resdet.errors import ConfigError, require
from resdet.necks.config import FPNConfig, NeckConfig


@dataclass
class InputConfig:
    """Resizing of test images."""

    min_size: int = 800  # shorter side of a test image in pixels
    max_size: int = 1333  # upper limit of the longer side in pixels
    # resizing of the library that trained the weights: pillow for detectron2's, torchvision for torchvision's; opencv:
    # resdet's own, which decodes large JPEGs at a reduced scale
    resize: Literal["opencv", "pillow", "torchvision"] = "opencv"
    divisor: int = 32  # sides are padded to multiples of this many pixels

    def __post_init__(self):
        remedy = f"give 0 < min_size <= max_size; model.input.max_size is {self.max_size}"
        require(0 < self.min_size <= self.max_size, "model.input.min_size", self.min_size, remedy)
        require(self.divisor > 0, "model.input.divisor", self.divisor, "give 1 or more")


@dataclass
class DetectorConfig(ModelConfig):
    """Faster R-CNN and its variants."""

    # backbone weights: a file, a published name, or `torchvision` for its ImageNet weights; null: random
    pretrained: str | None = None
    # maps of the RPN and the RoI heads. c4: conv4_x, with conv5_x as the box head (the paper, appendix A); dc5:
    # conv5_x, dilated, stride 16; fpn: those of `neck`; vgg: conv5_3 of VGG-16 or VGG-19, with fc6 and fc7 as the box
    # head (Tables 7 and 8)
    features: Literal["c4", "dc5", "fpn", "vgg"] = "fpn"
    neck: NeckConfig = field(default_factory=FPNConfig)  # with features fpn
    rpn: RPNConfig = field(default_factory=RPNConfig)
    box: BoxConfig = field(default_factory=BoxConfig)
    mask: MaskConfig | None = None  # mask branch, `{}` with its defaults; null: none
    keypoint: KeypointConfig | None = None  # keypoint branch, `{}` with its defaults; null: none
    # masks of Multi-task Network Cascades, as in the paper, instead of `mask`; with features c4 only; null: none
    mnc: MNCConfig | None = None
    input: InputConfig = field(default_factory=InputConfig)

    def __post_init__(self):
        super().__post_init__()
        name, features = self.backbone.name, self.features
        both = f"model.features is {features} and the backbone {name}"
        if features == "vgg" and not name.startswith("vgg"):
            raise ConfigError(f"{both}: vgg needs a VGG net; use c4, dc5 or fpn.", "model.features")
        if features in ("c4", "dc5") and not isinstance(self.backbone, (ResNetConfig, PlainConfig)):
            raise ConfigError(f"{both}, which has no conv5_x: use fpn.", "model.features")
        fits = features != "vgg" or self.box.resolution in (None, 7)
        require(fits, "model.box.resolution", self.box.resolution, "fc6 of VGG needs 7; set it to null")
        if self.mnc is not None:
            check_mnc(self)


def check_mnc(config: DetectorConfig) -> None:
    """Validates that no other key contradicts `model.mnc`."""
    count = len(config.box.ious)
    if config.features != "c4":
        raise ConfigError(
            f"model.mnc is set and model.features is {config.features}: MNC supports c4 only.", "model.mnc"
        )
    for name in ("mask", "keypoint"):
        if getattr(config, name) is not None:
            raise ConfigError(f"model.mnc and model.{name} are both set: set one of them to null.", f"model.{name}")
    if count > 1:
        raise ConfigError(f"model.mnc is set and model.box.ious has {count} entries: give one.", "model.box.ious")
    if config.box.context:
        raise ConfigError(
            "model.mnc and model.box.context are both set: MNC does not support context; set one of them.",
            "model.box.context",
        )


@dataclass
class PartConfig:
    """Training of one half of a detector, overrides `train` and `schedule`; the defaults are for COCO."""

    batch: int = 8  # images per step, over all processes
    length: float = 320000  # length of this half, in `train.unit`
    # where lr is multiplied by `schedule.gamma`, in `train.unit`
    milestones: list[float] = field(default_factory=lambda: [240000])

    def __post_init__(self):
        require(self.batch > 0, "alternating.*.batch", self.batch, "give one image or more")
        require(self.length > 0, "alternating.*.length", self.length, "give a length above 0")
        check_milestones(self.milestones, "alternating.*.milestones")


@dataclass
class AlternatingConfig:
    """Four-step training of Faster R-CNN (1506.01497, section 3.2; numbers for COCO in appendix A)."""

    rpn: PartConfig = field(default_factory=PartConfig)
    regions: PartConfig = field(default_factory=lambda: PartConfig(batch=16))


@dataclass
class DetectionEvalConfig(TTAConfig, EvalConfig):
    """Evaluation of a detector."""

    metric: str = "coco"  # coco, voc07, voc_area, ilsvrc_det, ilsvrc_vid, or a registered evaluator
    losses: bool = True  # also compute validation losses, except with test-time augmentation
    # standard deviation of each keypoint for OKS, relative to the object's size; null: COCO's for its 17 keypoints, and
    # the mean of COCO's, 0.064, for any other number
    keypoint_sigmas: list[float] | None = None

    def __post_init__(self):
        TTAConfig.__post_init__(self)
        sigmas = self.keypoint_sigmas
        require(
            sigmas is None or (len(sigmas) > 0 and min(sigmas) > 0),
            "eval.keypoint_sigmas",
            sigmas,
            "list a positive number for each keypoint",
        )
        evaluators.check(self.metric)
        EvalConfig.__post_init__(self)


@dataclass
class DetectionExperiment(Experiment):
    """Training and evaluation of a detector on a data set."""

    task: Literal["detection"] = "detection"
    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=lambda: CocoConfig("coco"))
    eval: DetectionEvalConfig = field(default_factory=DetectionEvalConfig)
    # four-step training, `{}` with the lengths of the paper for COCO; null: joint training
    alternating: AlternatingConfig | None = None

    # Chosen by resdet.detection.recipe.
    auto_keys: ClassVar[Mapping[str, tuple[Callable[[list[int]], int], str] | None]] = {
        "model.freeze_stages": None,
        "model.input.min_size": (min, "model.input.max_size"),
        "model.input.max_size": (max, "model.input.min_size"),
        "model.rpn.anchors": None,
        "model.box.batch_per_image": None,
        "data.augment.min_size": (min, "data.augment.max_size"),
        "data.augment.max_size": (max, "data.augment.min_size"),
        "data.sampling": None,
        "data.repeat_threshold": None,
        "data.max_objects": None,
        "schedule.warmup": None,
        "train.length": None,
        "train.evaluate_every": None,
        "train.checkpoint_every": None,
    }
    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (ScenesConfig,)

    @property
    def scenes(self) -> ScenesConfig:
        """`data`, which `check` narrows."""
        return cast(ScenesConfig, self.data)

    def check(self) -> None:
        super().check()
        if self.alternating and self.auto:
            raise ConfigError(
                f"alternating is set and {self.auto[0]} is auto: give a value, since each step has its own lengths.",
                self.auto[0],
            )
