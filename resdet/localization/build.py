"""Builds localizers from configs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from resdet import config as configs
from resdet.backbones.layers import Backbone
from resdet.backbones.surgery import freeze_stages
from resdet.config.experiment import ModelConfig, check_count, to_dict
from resdet.errors import ConfigError
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.localization.config import LocalizationExperiment, LocalizationRCNNExperiment
from resdet.localization.data.config import LocalizationConfig
from resdet.localization.per_class_rpn import PerClassRPN
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.restore import restore
from resdet.weights import checkpoint_file, zoo


def build_localizer(
    experiment: LocalizationExperiment, classes: Sequence[str], category_ids: Sequence[int] | None = None
) -> Localizer:
    """Builds the localizer of an experiment: a per-class RPN (appendix C)."""
    config = experiment.model
    net = localizer_backbone(config, classes)
    stride, channels = ([*levels.values()][-1] for levels in (net.strides, net.channels))
    rpn = PerClassRPN(config.rpn, channels, stride, len(classes))
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    data = cast(LocalizationConfig, experiment.data)
    model = Localizer(net, rpn, normalize, classes, data.size, data.short, experiment.eval)
    model.experiment = to_dict(experiment)
    return model


def build_localizer_rcnn(experiment: LocalizationRCNNExperiment, classes: Sequence[str]) -> LocalizerRCNN:
    """Builds the R-CNN of an experiment (appendix C) with its per-class RPN, which is trained, or untrained until a
    checkpoint's weights are loaded."""
    proposer = build_proposer(experiment.model.proposer, classes)
    net = localizer_backbone(experiment.model, classes)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    size = cast(LocalizationConfig, experiment.data).size
    model = LocalizerRCNN(experiment.model, net, proposer, normalize, classes, size, experiment.eval)
    model.experiment = to_dict(experiment)
    model.experiment["model"]["proposer"] = proposer.experiment
    return model


def localizer_backbone(config: ModelConfig, classes: Sequence[str]) -> Backbone:
    check_count(config.num_classes, classes)
    net = config.backbone.build(num_classes=0)
    freeze_stages(net, config.freeze_stages)
    return net


def build_proposer(proposer: str | dict[str, Any] | None, classes: Sequence[str]) -> Localizer:
    """Loads the trained RPN from a checkpoint path, or builds it untrained from an experiment in a checkpoint."""
    if isinstance(proposer, dict):
        inner = configs.from_dict(proposer, origin := "the config of the R-CNN's proposer")
        if inner.task != "localization":
            raise ConfigError(f"{origin} has the task {inner.task}: use a proposer with the task localization.")
        experiment = replace(inner, model=inner.model.for_checkpoint())
        return build_localizer(cast(LocalizationExperiment, experiment), classes)
    if proposer is None:
        raise ConfigError("model.proposer is null: name the checkpoint of a trained per-class RPN.")
    checkpoint = checkpoint_file.read(zoo.locate(proposer))
    is_localizer = (checkpoint.description.experiment or {}).get("task") == "localization"
    if not is_localizer or checkpoint.description.classes != list(classes):
        raise ConfigError(
            f"model.proposer: {proposer} is not a per-class RPN for the data's {len(classes)} classes; name one."
        )
    return restore(checkpoint, build_localizer).eval()
