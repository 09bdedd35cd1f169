"""Config of classifiers and detectors; free of torch."""

from dataclasses import dataclass, field
from typing import Literal

from resdet.backbones.config import BackboneConfig, Norm, PlainConfig, ResNetConfig
from resdet.errors import ConfigError, require
from resdet.heads.config import BoxConfig, MaskConfig, MNCConfig, RPNConfig


@dataclass
class ModelConfig:
    """The keys that every model shares."""

    backbone: BackboneConfig = field(default_factory=ResNetConfig)
    num_classes: int | None = None  # null: as many as the data has
    freeze_stages: int = 0  # number of stages, the stem first, whose weights and statistics are frozen

    def __post_init__(self):
        stages, count = self.freeze_stages, self.num_classes
        require(stages >= 0, "model.freeze_stages", stages, "give 0 (none) or a number of stages")
        remedy = "give 1 or more, or null for as many as the data has"
        require(count is None or count > 0, "model.num_classes", count, remedy)


@dataclass
class ClassifierConfig(ModelConfig):
    """A backbone with its classifier."""

    label_smoothing: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "model.label_smoothing", smoothing, "it lies between 0 and 1, as in 0.1")


@dataclass
class FPNConfig:
    """The pyramid over the backbone's stages."""

    width: int = 256
    norm: Norm | None = None


@dataclass
class InputConfig:
    """The size of test images, which belongs to the weights. `resize`: as the library does that they were made with."""

    short: int = 800  # the shorter side
    long: int = 1333  # but the longer one at most this
    resize: Literal["opencv", "pillow", "torchvision"] = "opencv"
    divisor: int = 32  # images are padded to a multiple of this

    def __post_init__(self):
        remedy = f"give 0 < short <= long, and model.input.long is {self.long}"
        require(0 < self.short <= self.long, "model.input.short", self.short, remedy)
        require(self.divisor > 0, "model.input.divisor", self.divisor, "give 1 or more")


@dataclass
class DetectorConfig(ModelConfig):
    """Faster R-CNN and its family. `features` says what proposals and regions are taken from:

    c4: conv4_x, with conv5_x computed for each region (the paper's, appendix A) · dc5: conv5_x, dilated, stride 16 ·
    fpn: a pyramid · vgg: conv5_3 of VGG-16 or VGG-19, with fc6 and fc7 for each region (Tables 7 and 8).
    """

    pretrained: str | None = None  # of the backbone: a file, or `torchvision` for that library's ImageNet weights
    features: Literal["c4", "dc5", "fpn", "vgg"] = "fpn"
    fpn: FPNConfig = field(default_factory=FPNConfig)
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
