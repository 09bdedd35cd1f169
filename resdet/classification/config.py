"""Classification config; does not import torch."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from resdet.classification.data.config import ImageNetConfig, ImagesConfig, OnDeviceConfig
from resdet.config.experiment import EvalConfig, Experiment, ModelConfig
from resdet.data.config import DataConfig
from resdet.errors import require


@dataclass
class ClassifierConfig(ModelConfig):
    """Config of a classifier."""

    label_smoothing: float = 0.0  # share of each target that is spread over all classes, from 0 to below 1
    # weights of the classes in the training loss, in the order of the classes; balanced: inversely proportional to the
    # number of training images, with a mean of 1 over the images; null: equal weights
    class_weights: Literal["balanced"] | list[float] | None = None

    def __post_init__(self):
        super().__post_init__()
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "model.label_smoothing", smoothing, "it lies between 0 and 1, as in 0.1")
        weights = self.class_weights
        if isinstance(weights, list):
            positive = min(weights, default=0) > 0
            require(positive, "model.class_weights", weights, "list a number above 0 for each class")


@dataclass
class TestCropsConfig:
    """Test views (section 3.4): one crop, ten crops, or fully convolutional at several scales."""

    __test__ = False  # keeps pytest from collecting the class

    # center: the center crop; ten_crop: four corners and the center, also flipped; dense: the whole image, fully
    # convolutional, at each of `scales`
    views: Literal["center", "ten_crop", "dense"] = "center"
    # dense: shorter sides of the image in pixels; null: 224, 256, 384, 480 and 640, times data.size / 224
    scales: list[int] | None = None
    flip: bool = True  # dense: also the horizontally flipped image

    def __post_init__(self):
        remedy = "list one or more sizes in pixels, or null"
        require(self.scales is None or min(self.scales, default=0) > 0, "eval.scales", self.scales, remedy)


@dataclass
class ClassificationEvalConfig(TestCropsConfig, EvalConfig):
    """Config of a classifier's evaluation."""

    batch: int = 256

    def __post_init__(self):
        TestCropsConfig.__post_init__(self)
        EvalConfig.__post_init__(self)


@dataclass
class ClassificationExperiment(Experiment):
    """Training and evaluation of a classifier on a data set."""

    task: Literal["classification"] = "classification"
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    data: DataConfig = field(default_factory=ImageNetConfig)
    eval: ClassificationEvalConfig = field(default_factory=ClassificationEvalConfig)

    data_kinds: ClassVar[tuple[type[DataConfig], ...]] = (ImagesConfig, OnDeviceConfig)
    measures_error: ClassVar[bool] = True
