"""Builds a classifier from a config."""

from collections.abc import Sequence

from torch import Tensor

from resdet.backbones.surgery import freeze_stages
from resdet.classification.config import ClassificationExperiment
from resdet.classification.model import Classifier
from resdet.config.experiment import check_count, to_dict
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD


def build_classifier(
    experiment: ClassificationExperiment, classes: Sequence[str], mean: Tensor | None = None, std: Tensor | None = None
) -> Classifier:
    """Builds the classifier of an experiment; `mean` and `std` are its pixel statistics, by default ImageNet's."""
    check_count(experiment.model.num_classes, classes)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD) if mean is None or std is None else Normalize(mean, std)
    size = getattr(experiment.data, "crop", 32)
    backbone = experiment.model.backbone.build(len(classes))
    freeze_stages(backbone, experiment.model.freeze_stages)
    model = Classifier(
        backbone,
        classes,
        normalize,
        size=size,
        short=getattr(experiment.data, "short_side", size),
        label_smoothing=experiment.model.label_smoothing,
    )
    model.task = experiment.task
    model.experiment = to_dict(experiment)
    return model
