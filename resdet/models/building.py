"""From a config to an untrained model, and from a checkpoint to a trained one."""

from pathlib import Path
from typing import Any, Optional, Sequence

from torch import Tensor

from resdet import config as configs
from resdet.backbones import registry
from resdet.backbones.surgery import freeze_stages
from resdet.errors import ConfigError, WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.models.classifier import Classifier
from resdet.models.normalise import Normalise
from resdet.weights import loading, reading


def build(config: Any, *overrides: str) -> Classifier:
    """An untrained model from a config's name, path, or loaded experiment: `resdet.build("cifar10_resnet20.yaml")`."""
    experiment = configs.load(config, *overrides) if isinstance(config, (str, Path)) else config
    count = experiment.model.num_classes
    if count is None:
        raise ConfigError("model.num_classes is null, as many as the data has: give a number to build without data.")
    return build_classifier(experiment, [str(label) for label in range(count)])


def build_classifier(
    experiment: Any, classes: Sequence[str], mean: Optional[Tensor] = None, std: Optional[Tensor] = None
) -> Classifier:
    """The classifier of an experiment, for these classes and pixel statistics (ImageNet's where none are given)."""
    wanted = experiment.model.num_classes
    if wanted is not None and wanted != len(classes):
        raise ConfigError(
            f"model.num_classes is {wanted} and the data has {len(classes)} classes: set one of them right, or null."
        )
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


def load(path: str | Path) -> Classifier:
    """A trained model with its classes and preprocessing, in eval mode.

    Takes what `resdet train` wrote, and torchvision's, timm's and Keras-applications' nets, recognised by content.
    """
    checkpoint = reading.read(path)
    if checkpoint.meta.get("experiment"):
        return load_own(checkpoint).eval()
    return load_foreign(checkpoint).eval()


def load_own(checkpoint: reading.Checkpoint) -> Classifier:
    meta = checkpoint.meta
    experiment = configs.from_dict(meta["experiment"], f"the config inside {checkpoint.origin}")
    model = build_classifier(experiment, meta["classes"])
    loading.load(model, checkpoint)
    return model


def load_foreign(checkpoint: reading.Checkpoint) -> Classifier:
    guess = loading.recognise(checkpoint)
    if guess.backbone is None:
        raise WeightsError(
            f"{checkpoint.origin}: which net these weights are of is not known; build it and use resdet.weights.load."
        )
    settings = {"task": "classification", "model": {"backbone": guess.backbone, "num_classes": guess.num_classes}}
    experiment = configs.from_dict(settings)
    model = build_classifier(experiment, guess.classes)
    loading.load(model, checkpoint)
    return model
