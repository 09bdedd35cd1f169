"""Config of the evaluation of each task; free of torch."""

from dataclasses import dataclass
from typing import Literal

from resdet.errors import require
from resdet.inference.config import ShowingConfig, TestingConfig
from resdet.models.localizer_config import LocatingConfig


@dataclass
class BatchConfig:
    """The key that every evaluation shares."""

    batch: int = 1  # images at once, on each process


def check_batch(batch: int) -> None:
    require(batch > 0, "eval.batch", batch, "give one image or more")


@dataclass
class EvalConfig(ShowingConfig, BatchConfig):
    """Evaluation of a classifier."""

    batch: int = 256

    def __post_init__(self):
        super().__post_init__()
        check_batch(self.batch)


@dataclass
class DetectionEvalConfig(TestingConfig, BatchConfig):
    """Evaluation of a detector."""

    metric: Literal["coco", "voc07", "voc_area", "ilsvrc_det"] = "coco"
    losses: bool = True  # the validation losses as well, from the same features, where the test is a plain one

    def __post_init__(self):
        super().__post_init__()
        check_batch(self.batch)


@dataclass
class LocalizationEvalConfig(LocatingConfig, BatchConfig):
    """Evaluation of a localizer (appendix C, Table 13)."""

    batch: int = 64  # central crops at once, on each process; whole images come one by one
    losses: bool = True  # during training the validation losses as well
    # How `resdet evaluate --classifier` shows images to the net that predicts their classes.
    classifier_views: Literal["centre", "ten_crop", "dense"] = "centre"

    def __post_init__(self):
        super().__post_init__()
        check_batch(self.batch)
