"""From a config to an untrained model, and from a checkpoint to a trained one."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from resdet.backbones import registry
from resdet.backbones.layers import Backbone
from resdet.backbones.surgery import freeze_stages
from resdet.errors import ConfigError, WeightsError
from resdet.experiments import to_dict
from resdet.heads.per_class import PerClassRPN
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.models.classifier import Classifier
from resdet.models.detector import Detector
from resdet.models.filling import Filling
from resdet.models.localizer import Localizer
from resdet.models.localizer_rcnn import LocalizerRCNN
from resdet.models.making import make_detector
from resdet.models.normalise import Normalise
from resdet.weights import description, formats, loading, reading, zoo

Model = Classifier | Detector | Localizer | LocalizerRCNN


def build(config: Any, *overrides: str) -> Model:
    """An untrained model from a config's name, path, or loaded experiment: `resdet.build("coco_r101.yaml")`."""
    from resdet import config as configs

    experiment = configs.load(config, *overrides) if isinstance(config, (str, Path)) else config
    count = experiment.model.num_classes
    if count is None:
        raise ConfigError("model.num_classes is null, as many as the data has: give a number to build without data.")
    return build_for(experiment, [str(label) for label in range(count)])


def build_for(experiment: Any, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> Model:
    """The model of an experiment, whatever its task, for these classes."""
    if experiment.task == "detection":
        return build_detector(experiment, classes, category_ids or range(1, len(classes) + 1))
    if experiment.task == "localization":
        return build_localizer(experiment, classes)
    if experiment.task == "localization_rcnn":
        return build_localizer_rcnn(experiment, classes)
    return build_classifier(experiment, classes)


def build_classifier(
    experiment: Any, classes: Sequence[str], mean: Tensor | None = None, std: Tensor | None = None
) -> Classifier:
    """The classifier of an experiment, for these classes and pixel statistics (ImageNet's where none are given)."""
    check_count(experiment.model.num_classes, classes)
    normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD) if mean is None else Normalise(mean, std)
    size = getattr(experiment.data, "crop", 32)
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
    model.experiment = to_dict(experiment)
    return model


def build_detector(experiment: Any, classes: Sequence[str], category_ids: Sequence[int]) -> Detector:
    """The detector of an experiment, for these classes, which its results call by these ids."""
    check_count(experiment.model.num_classes, classes)
    normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)
    model = make_detector(experiment.model, classes, category_ids, normalise)
    model.experiment = to_dict(experiment)
    return model


def build_localizer(experiment: Any, classes: Sequence[str]) -> Localizer:
    """The localizer of an experiment: a per-class RPN (appendix C)."""
    config = experiment.model
    net = localizer_backbone(config, classes)
    stride, channels = ([*known.values()][-1] for known in (net.strides, net.channels))
    rpn = PerClassRPN(config.rpn, channels, stride, len(classes))
    normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)
    data = experiment.data
    model = Localizer(net, rpn, normalise, classes, data.size, data.short, experiment.eval)
    model.experiment = to_dict(experiment)
    return model


def build_localizer_rcnn(experiment: Any, classes: Sequence[str]) -> LocalizerRCNN:
    """The R-CNN of an experiment (appendix C), with its per-class RPN: trained, or to be filled from a checkpoint."""
    proposer = make_proposer(experiment.model.proposer, classes)
    net = localizer_backbone(experiment.model, classes)
    normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)
    model = LocalizerRCNN(experiment.model, net, proposer, normalise, classes, experiment.data.size, experiment.eval)
    model.experiment = to_dict(experiment)
    model.experiment["model"]["proposer"] = proposer.experiment
    return model


def localizer_backbone(config: Any, classes: Sequence[str]) -> Backbone:
    check_count(config.num_classes, classes)
    net = registry.build(config.backbone, num_classes=0)
    freeze_stages(net, config.freeze_stages)
    return net


def make_proposer(proposer: Any, classes: Sequence[str]) -> Localizer:
    """From a checkpoint's path, or without its weights from the experiment that an R-CNN's checkpoint carries."""
    if isinstance(proposer, dict):
        from resdet import config as configs

        inner = configs.from_dict(proposer, what := "the config of the R-CNN's proposer")
        if inner.task != "localization":
            raise ConfigError(f"{what} is of the task {inner.task}, and a proposer is of localization.")
        return build_localizer(unfetched(inner), classes)
    if proposer is None:
        raise ConfigError("model.proposer is null: name the checkpoint of a trained per-class RPN.")
    model = load(proposer)
    if not isinstance(model, Localizer) or model.classes != list(classes):
        raise ConfigError(f"model.proposer: {proposer} is no per-class RPN of the data's {len(classes)} classes.")
    return model


def check_count(wanted: int | None, classes: Sequence[str]) -> None:
    if wanted is not None and wanted != len(classes):
        raise ConfigError(
            f"model.num_classes is {wanted} and the data has {len(classes)} classes: set one of them right, or null."
        )


def load(path: str | Path) -> Any:
    """A trained model with its classes and preprocessing, in eval mode.

    Takes what `resdet train` and `resdet export --to onnx` wrote, and the files of torchvision, timm, detectron2, MSRA
    and Keras-applications, recognised by content; or a published model by name, which is fetched once:
    `torchvision/maskrcnn_resnet50_fpn_v2`, `detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x`.
    """
    if Path(path).suffix == ".onnx":
        from resdet.inference import exported

        return exported.load(path)
    checkpoint = reading.read(zoo.locate(path))
    make = load_own if checkpoint.description.experiment else load_foreign
    return make(checkpoint).eval()


def load_own(checkpoint: reading.Checkpoint) -> Model:
    """The model that the config in a file of ours describes."""
    from resdet import config as configs

    told, what = checkpoint.description, f"the config inside {checkpoint.origin}"
    experiment = configs.from_dict(told.experiment, what)
    if isinstance(getattr(experiment.model, "proposer", None), str):
        raise ConfigError(f"{what}: model.proposer is a path, and a file holds its proposer itself: it is damaged.")
    model = filled(unfetched(experiment), told.classes, told.category_ids, checkpoint, what)
    model.experiment["model"]["backbone"] = asdict(experiment.model.backbone)
    return model


def load_foreign(checkpoint: reading.Checkpoint) -> Model:
    """The model that another library's weights imply, with their classes where these are known."""
    from resdet import config as configs

    layout = formats.recognise(checkpoint)
    if layout.settings is None:
        raise WeightsError(
            f"{checkpoint.origin}: which net these weights are of is not known; build it and use resdet.weights.load."
        )
    settings = layout.section(checkpoint)
    name = settings["backbone"]["name"]
    if not 0 < settings["num_classes"] <= description.MAX_CLASSES:
        raise WeightsError(
            f"{checkpoint.origin} is a {name} without classes: build a net for your own, and give this file to "
            "resdet.weights.load with new_classifier=True."
        )
    categories = layout.categories(settings["num_classes"])
    experiment = {"task": "detection", "data": "coco"} if layout.detector else {"task": "classification"}
    description.refuse_absurd_counts({"model": settings}, checkpoint.origin)
    experiment = configs.from_dict({**experiment, "model": settings}, what := f"the net of {checkpoint.origin}")
    try:
        return filled(experiment, categories.names, categories.ids, checkpoint, what)
    except loading.Misfit as problem:
        raise WeightsError(
            f"{checkpoint.origin} has the names of a {name} and is another net, which none here is ({problem.what}): "
            "docs/weights.md lists those that are known."
        ) from None


def filled(
    experiment: Any,
    classes: Sequence[str],
    category_ids: Sequence[int] | None,
    checkpoint: reading.Checkpoint,
    what: str,
) -> Model:
    """The model with the weights; `what` names the config in errors."""
    try:
        with Filling(checkpoint.state, checkpoint.origin):
            model = build_for(experiment, classes, category_ids)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None
    loading.load(model, checkpoint)
    return model


def unfetched(experiment: Any) -> Any:
    """With a net that is not fetched by its library, where a file has its weights."""
    backbone = experiment.model.backbone
    if not getattr(backbone, "pretrained", False):
        return experiment
    return replace(experiment, model=replace(experiment.model, backbone=replace(backbone, pretrained=False)))
