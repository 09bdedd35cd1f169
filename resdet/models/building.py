"""From a config to an untrained model, and from a checkpoint to a trained one."""

from pathlib import Path
from typing import Any, Optional, Sequence, Union

from torch import Tensor

from resdet import config as configs
from resdet.backbones import registry
from resdet.backbones.surgery import freeze_stages
from resdet.errors import ConfigError, WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.models.classifier import Classifier
from resdet.models.detector import Detector
from resdet.models.making import make_detector
from resdet.models.normalise import Normalise
from resdet.weights import loading, reading, torchvision_detectors

Model = Union[Classifier, Detector]


def build(config: Any, *overrides: str) -> Model:
    """An untrained model from a config's name, path, or loaded experiment: `resdet.build("coco_r101.yaml")`."""
    experiment = configs.load(config, *overrides) if isinstance(config, (str, Path)) else config
    count = experiment.model.num_classes
    if count is None:
        raise ConfigError("model.num_classes is null, as many as the data has: give a number to build without data.")
    return build_for(experiment, [str(label) for label in range(count)])


def build_for(experiment: Any, classes: Sequence[str], category_ids: Optional[Sequence[int]] = None) -> Model:
    """The model of an experiment, whatever its task, for these classes."""
    if experiment.task == "detection":
        return build_detector(experiment, classes, category_ids or range(1, len(classes) + 1))
    return build_classifier(experiment, classes)


def build_classifier(
    experiment: Any, classes: Sequence[str], mean: Optional[Tensor] = None, std: Optional[Tensor] = None
) -> Classifier:
    """The classifier of an experiment, for these classes and pixel statistics (ImageNet's where none are given)."""
    check_count(experiment.model.num_classes, classes)
    normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD) if mean is None else Normalise(mean, std)
    size = getattr(experiment.data, "size", 32)
    backbone = registry.build(experiment.model.backbone, len(classes))
    freeze_stages(backbone, experiment.model.freeze_stages)
    model = Classifier(
        backbone,
        classes,
        normalise,
        size=size,
        short=getattr(experiment.data, "short", size),
        label_smoothing=experiment.model.label_smoothing,
    )
    model.experiment = configs.plain(configs.to_dict(experiment))
    return model


def build_detector(experiment: Any, classes: Sequence[str], category_ids: Sequence[int]) -> Detector:
    """The detector of an experiment, for these classes, which its results call by these ids."""
    check_count(experiment.model.num_classes, classes)
    normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)
    model = make_detector(experiment.model, classes, category_ids, normalise)
    model.experiment = configs.plain(configs.to_dict(experiment))
    return model


def check_count(wanted: Optional[int], classes: Sequence[str]) -> None:
    if wanted is not None and wanted != len(classes):
        raise ConfigError(
            f"model.num_classes is {wanted} and the data has {len(classes)} classes: set one of them right, or null."
        )


def load(path: str | Path) -> Model:
    """A trained model with its classes and preprocessing, in eval mode.

    Takes what `resdet train` wrote, torchvision's, timm's and Keras-applications' nets, and torchvision's detectors,
    recognised by content.
    """
    checkpoint = reading.read(path)
    if checkpoint.meta.get("experiment"):
        return load_own(checkpoint).eval()
    return load_foreign(checkpoint).eval()


def load_own(checkpoint: reading.Checkpoint) -> Model:
    meta = checkpoint.meta
    experiment = configs.from_dict(meta["experiment"], f"the config inside {checkpoint.origin}")
    model = build_for(experiment, meta["classes"], meta.get("category_ids"))
    loading.load(model, checkpoint)
    return model


def load_foreign(checkpoint: reading.Checkpoint) -> Model:
    settings, classes = describe_foreign(checkpoint)
    model = build_for(configs.from_dict(settings), classes)
    loading.load(model, checkpoint)
    return model


def describe_foreign(checkpoint: reading.Checkpoint) -> tuple[dict, list[str]]:
    """The experiment that another library's weights imply, and names for their classes."""
    guess = loading.recognise(checkpoint)
    if guess.layout == "torchvision detector":
        model = torchvision_detectors.settings(checkpoint.state, checkpoint.origin)
        return {"task": "detection", "model": model}, [str(label + 1) for label in range(model["num_classes"])]
    if guess.backbone is None:
        raise WeightsError(
            f"{checkpoint.origin}: which net these weights are of is not known; build it and use resdet.weights.load."
        )
    return {
        "task": "classification",
        "model": {"backbone": guess.backbone, "num_classes": guess.num_classes},
    }, guess.classes
