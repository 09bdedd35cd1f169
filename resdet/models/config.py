"""What a model is told; free of torch."""

from dataclasses import dataclass, field
from typing import Literal, Optional

from resdet.backbones.config import BackboneConfig, Norm, PlainConfig, ResNetConfig
from resdet.errors import ConfigError
from resdet.heads.config import BoxConfig, MaskConfig, MNCConfig, RPNConfig


@dataclass
class ClassifierConfig:
    """A backbone with its classifier."""

    backbone: BackboneConfig = field(default_factory=ResNetConfig)
    num_classes: Optional[int] = None  # null: as many as the data has
    label_smoothing: float = 0.0
    freeze_stages: int = (
        0  # so many stages, the stem being the first, keep their weights and statistics: for fine-tuning
    )

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"model.label_smoothing is {self.label_smoothing}: it lies between 0 and 1, as in 0.1.")
        check_counts(self.freeze_stages, self.num_classes)


def check_counts(freeze_stages: int, num_classes: Optional[int]) -> None:
    if freeze_stages < 0:
        raise ConfigError(f"model.freeze_stages is {freeze_stages}: give 0 (none) or a number of stages.")
    if num_classes is not None and num_classes < 1:
        raise ConfigError(f"model.num_classes is {num_classes}: give 1 or more, or null for as many as the data has.")


@dataclass
class FPNConfig:
    """The pyramid over the backbone's stages."""

    width: int = 256
    norm: Optional[Norm] = None


@dataclass
class InputConfig:
    """The size of test images, which belongs to the weights. `resize`: as the library does that they were made with."""

    short: int = 800  # the shorter side
    long: int = 1333  # but the longer one at most this
    resize: Literal["opencv", "pillow", "torchvision"] = "opencv"
    divisor: int = 32  # images are padded to a multiple of this

    def __post_init__(self):
        if not 0 < self.short <= self.long:
            raise ConfigError(f"model.input.short is {self.short} and long {self.long}: give 0 < short <= long.")
        if self.divisor < 1:
            raise ConfigError(f"model.input.divisor is {self.divisor}: give 1 or more.")


@dataclass
class DetectorConfig:
    """Faster R-CNN and its family. `features` says what proposals and regions are taken from:

    c4: conv4_x, with conv5_x computed for each region (the paper's, appendix A) · dc5: conv5_x, dilated, stride 16 ·
    fpn: a pyramid · vgg: conv5_3 of VGG-16 or VGG-19, with fc6 and fc7 for each region (Tables 7 and 8).
    """

    backbone: BackboneConfig = field(default_factory=ResNetConfig)
    num_classes: Optional[int] = None  # null: as many as the data has
    pretrained: Optional[str] = None  # of the backbone: a file, or `torchvision` for that library's ImageNet weights
    freeze_stages: int = 0  # so many stages, the stem being the first, keep their weights and statistics
    features: Literal["c4", "dc5", "fpn", "vgg"] = "fpn"
    fpn: FPNConfig = field(default_factory=FPNConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    box: BoxConfig = field(default_factory=BoxConfig)
    mask: Optional[MaskConfig] = None  # null: boxes alone
    mnc: Optional[MNCConfig] = None  # the paper's way to masks, in place of `mask`; for c4, whose regions it warps
    input: InputConfig = field(default_factory=InputConfig)

    def __post_init__(self):
        check_counts(self.freeze_stages, self.num_classes)
        name = self.backbone.name
        if (self.features == "vgg") and not name.startswith("vgg"):
            raise ConfigError(f"model.features is vgg and the backbone {name}: choose c4, dc5 or fpn for it.")
        if self.features == "vgg" and self.box.resolution not in (None, 7):
            raise ConfigError(f"model.box.resolution is {self.box.resolution}: VGG's fc6 is for 7; set it to null.")
        if self.features in ("c4", "dc5") and not isinstance(self.backbone, (ResNetConfig, PlainConfig)):
            raise ConfigError(f"model.features is {self.features} and the backbone {name}: it has no conv5_x; use fpn.")
        if self.mnc is not None:
            check_mnc(self)


def check_mnc(config: DetectorConfig) -> None:
    """What goes together with its cascade."""
    if config.features != "c4":
        raise ConfigError(f"model.mnc is set and model.features is {config.features}: it is for c4.")
    if config.mask is not None:
        raise ConfigError("model.mnc and model.mask are both set: it draws masks of its own; set model.mask=null.")
    if len(config.box.ious) > 1:
        raise ConfigError(f"model.mnc is set and model.box.ious has {len(config.box.ious)} entries: give it one.")
    if config.box.context:
        raise ConfigError("model.mnc and model.box.context are both set: it sees no context; set one of them.")
