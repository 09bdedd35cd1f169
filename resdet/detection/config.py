"""Config of detection; free of torch."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from resdet.backbones.config import PlainConfig, ResNetConfig
from resdet.config.experiment import EvalConfig, Experiment, ModelConfig
from resdet.data.config import DataConfig
from resdet.detection.data.config import CocoConfig, ScenesConfig
from resdet.detection.evaluation.protocols import evaluators
from resdet.detection.heads.config import BoxConfig, MaskConfig, MNCConfig, RPNConfig
from resdet.detection.inference.config import TTAConfig
from resdet.errors import ConfigError, require
from resdet.necks.config import FPNConfig, NeckConfig


@dataclass
class InputConfig:
    """The size of test images, which belongs to the weights. `resize`: as the library does that they were made with."""

    min_size: int = 800  # the shorter side
    max_size: int = 1333  # but the longer one at most this
    resize: Literal["opencv", "pillow", "torchvision"] = "opencv"
    divisor: int = 32  # images are padded to a multiple of this

    def __post_init__(self):
        remedy = f"give 0 < min_size <= max_size, and model.input.max_size is {self.max_size}"
        require(0 < self.min_size <= self.max_size, "model.input.min_size", self.min_size, remedy)
        require(self.divisor > 0, "model.input.divisor", self.divisor, "give 1 or more")


@dataclass
class DetectorConfig(ModelConfig):
    """Faster R-CNN and its family. `features` says what proposals and regions are taken from:

    c4: conv4_x, with conv5_x computed for each region (the paper's, appendix A) · dc5: conv5_x, dilated, stride 16 ·
    fpn: those of `neck` · vgg: conv5_3 of VGG-16 or VGG-19, with fc6 and fc7 for each region (Tables 7 and 8).
    """

    pretrained: str | None = None  # of the backbone: a file, or `torchvision` for that library's ImageNet weights
    features: Literal["c4", "dc5", "fpn", "vgg"] = "fpn"
    neck: NeckConfig = field(default_factory=FPNConfig)  # with features fpn
    rpn: RPNConfig = field(default_factory=RPNConfig)
    box: BoxConfig = field(default_factory=BoxConfig)
    mask: MaskConfig | None = None  # null: boxes alone
    mnc: MNCConfig | None = None  # the paper's way to masks, in place of `mask`; for c4, whose regions it warps
    input: InputConfig = field(default_factory=InputConfig)

    def __post_init__(self):
        super().__post_init__()
        name, features = self.backbone.name, self.features
        both = f"model.features is {features} and the backbone {name}"
        if features == "vgg" and not name.startswith("vgg"):
            raise ConfigError(f"{both}: choose c4, dc5 or fpn for it.", "model.features")
        if features in ("c4", "dc5") and not isinstance(self.backbone, (ResNetConfig, PlainConfig)):
            raise ConfigError(f"{both}: it has no conv5_x; use fpn.", "model.features")
        fits = features != "vgg" or self.box.resolution in (None, 7)
        require(fits, "model.box.resolution", self.box.resolution, "VGG's fc6 is for 7; set it to null")
        if self.mnc is not None:
            check_mnc(self)


def check_mnc(config: DetectorConfig) -> None:
    """Refuses what its cascade does not go together with."""
    count = len(config.box.ious)
    if config.features != "c4":
        raise ConfigError(f"model.mnc is set and model.features is {config.features}: it is for c4.", "model.mnc")
    if config.mask is not None:
        raise ConfigError("model.mnc and model.mask are both set: set one of them to null.", "model.mask")
    if count > 1:
        raise ConfigError(f"model.mnc is set and model.box.ious has {count} entries: give it one.", "model.box.ious")
    if config.box.context:
        raise ConfigError(
            "model.mnc and model.box.context are both set: it sees no context; set one of them.", "model.box.context"
        )


@dataclass
class PartConfig:
    """How one half of a detector is trained, in place of what `train` and `schedule` say; the defaults are COCO's."""

    batch: int = 8
    length: float = 320000  # in train.unit
    milestones: list[float] = field(default_factory=lambda: [240000])

    def __post_init__(self):
        require(self.batch > 0, "alternating.*.batch", self.batch, "give one image or more")
        require(self.length > 0, "alternating.*.length", self.length, "it must be above zero")


@dataclass
class AlternatingConfig:
    """The four steps of Faster R-CNN (1506.01497, section 3.2; appendix A has the numbers for COCO)."""

    rpn: PartConfig = field(default_factory=PartConfig)
    regions: PartConfig = field(default_factory=lambda: PartConfig(batch=16))


@dataclass
class DetectionEvalConfig(TTAConfig, EvalConfig):
    """Evaluation of a detector."""

    metric: str = "coco"  # coco, voc07, voc_area, ilsvrc_det, or a registered evaluator
    losses: bool = True  # the validation losses as well, from the same features, where the test is a plain one

    def __post_init__(self):
        TTAConfig.__post_init__(self)
        evaluators.check(self.metric)
        EvalConfig.__post_init__(self)


@dataclass
class DetectionExperiment(Experiment):
    """A detector on a data set, trained and tested."""

    task: Literal["detection"] = "detection"
    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=lambda: CocoConfig("coco"))
    eval: DetectionEvalConfig = field(default_factory=DetectionEvalConfig)
    alternating: AlternatingConfig | None = None  # null: RPN and regions together; {}: in four steps

    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (ScenesConfig,)
