"""What a model is told; free of torch."""

from dataclasses import dataclass, field
from typing import Optional

from resdet.backbones.config import BackboneConfig, ResNetConfig
from resdet.errors import ConfigError


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
        if self.freeze_stages < 0:
            raise ConfigError(f"model.freeze_stages is {self.freeze_stages}: give 0 (none) or a number of stages.")
        if self.num_classes is not None and self.num_classes < 1:
            raise ConfigError(
                f"model.num_classes is {self.num_classes}: give 1 or more, or null for as many as the data has."
            )
