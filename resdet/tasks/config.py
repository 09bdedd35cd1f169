"""Config of alternating training; free of torch."""

from dataclasses import dataclass, field

from resdet.errors import require


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
