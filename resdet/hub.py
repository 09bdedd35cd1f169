"""Builds models from configs and loads them from checkpoints."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, overload

import torch
from torch.utils.data import Dataset

from resdet import config as configs
from resdet.config.experiment import Experiment
from resdet.errors import ConfigError, WeightsError
from resdet.export import onnx_model, openvino_model
from resdet.export.openvino_model import Precision
from resdet.fast import Compile, accelerate
from resdet.model import Model
from resdet.restore import build_with_weights, restore
from resdet.tasks import tasks
from resdet.weights import checkpoint_file, description, load_weights, zoo
from resdet.weights.layouts.recognition import recognize

Mode = Literal["exact", "fast"]
OPENVINO_PRECISION: dict[Mode, Precision | None] = {"exact": "f32", "fast": None}
M = TypeVar("M")


@overload
def build(config: str | Path | Experiment, *overrides: str, expect: None = None) -> Model: ...


@overload
def build(config: str | Path | Experiment, *overrides: str, expect: type[M]) -> M: ...


def build(config: str | Path | Experiment, *overrides: str, expect: type[Any] | None = None) -> Any:
    """Builds an untrained model from the name or the path of a config, or from an experiment.

    `overrides`: settings such as "model.num_classes=80"; `expect`: see `load`.
    """
    experiment = experiment_of(config, overrides)
    count = experiment.model.num_classes
    if count is None:
        raise ConfigError(
            "model.num_classes is null, the number of classes of the data: give a number to build without data."
        )
    model = build_for(experiment, [str(label) for label in range(count)])
    return checked(model, expect, config if isinstance(config, (str, Path)) else "The experiment")


def experiment_of(config: str | Path | Experiment, overrides: tuple[str, ...]) -> Experiment:
    if isinstance(config, (str, Path)):
        return configs.load(config, *overrides)
    return configs.from_dict(configs.to_dict(config), "the experiment", overrides) if overrides else config


def build_for(experiment: Experiment, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> Model:
    """Builds the untrained model of an experiment of any task, for these classes."""
    return tasks[experiment.task].build(experiment, classes, category_ids)


def open_data(
    config: str | Path | Experiment, split: str = "train", *overrides: str, transform: Callable[..., Any] | None = None
) -> Dataset[Any]:
    """Opens the data of a config as a map-style dataset: `resdet.open_data("custom.yaml", "val", "data.root=FOLDER")`.

    `split`: train or val. Samples of detection are (image, target) in the form of torchvision's detectors, and
    `transform` maps both; those of classification are (image, label), and `transform` maps the image.
    """
    experiment = experiment_of(config, overrides)
    return experiment.data.dataset(split, transform)


@overload
def load(
    path: str | Path,
    mode: Mode = "exact",
    device: str | torch.device | None = None,
    compile: Compile = "auto",
    expect: None = None,
) -> Model: ...


@overload
def load(
    path: str | Path,
    mode: Mode = "exact",
    device: str | torch.device | None = None,
    compile: Compile = "auto",
    *,
    expect: type[M],
) -> M: ...


def load(
    path: str | Path,
    mode: Mode = "exact",
    device: str | torch.device | None = None,
    compile: Compile = "auto",
    expect: type[Any] | None = None,
) -> Any:
    """Loads a trained model with its classes and preprocessing, in eval mode, on `device` (default: the CPU).

    `path`: a checkpoint of `resdet train`; an ONNX or OpenVINO file of `resdet export`; a checkpoint of torchvision,
    timm, detectron2, MSRA or Keras-applications, recognized by its content; or the name of a published model,
    downloaded once, such as `torchvision/maskrcnn_resnet50_fpn_v2` or
    `detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x`; `resdet zoo` lists all.

    `mode`: "exact" computes in float32, as the library of the weights does; "fast" prepares the model for inference
    only (see `resdet.fast.accelerate`, also for `compile`). ONNX files run in the exported precision. OpenVINO files
    compute in float32 in exact mode, and in OpenVINO's default precision in fast mode. Both run on the CPU, regardless
    of `device`.

    `expect`: the class of the model, for type checkers, such as `resdet.detection.Detector`; a model of another class
    is refused.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"mode is {mode!r}: give exact or fast.")
    if mode == "exact" and compile is True:
        raise ConfigError("compile=True is for mode=fast: load the model in fast mode, or leave it out.")
    if compile is True and Path(path).suffix in (".onnx", ".xml"):
        raise ConfigError(f"{path} is an exported file, which torch.compile cannot compile: leave out compile=True.")
    if Path(path).suffix == ".onnx":
        return checked(onnx_model.load(path), expect, path)
    if Path(path).suffix == ".xml":
        return checked(openvino_model.load(path, OPENVINO_PRECISION[mode]), expect, path)
    model = checked(load_model(path), expect, path).to(device)
    return accelerate(model, compile=compile) if mode == "fast" else model


def checked(model: Any, expect: type[Any] | None, origin: str | Path) -> Any:
    """Returns the model if it is of the expected class, else raises a ConfigError."""
    if expect is not None and not isinstance(model, expect):
        raise ConfigError(
            f"{origin}: the model is of class {type(model).__name__}, not {expect.__name__}; omit expect or change it."
        )
    return model


def load_model(path: str | Path) -> Model:
    checkpoint = checkpoint_file.read(zoo.locate(path))
    if not checkpoint.description.experiment:
        return load_foreign(checkpoint).eval()
    return restore(checkpoint, build_for).eval()


def load_foreign(checkpoint: checkpoint_file.Checkpoint) -> Model:
    """Loads weights of another library into a model inferred from them, with their classes if known."""
    layout = recognize(checkpoint)
    if layout.settings is None:
        raise WeightsError(
            f"{checkpoint.origin}: cannot infer the architecture from these weights; build the model and call "
            "resdet.weights.load."
        )
    settings = layout.section(checkpoint)
    name = settings["backbone"]["name"]
    if not 0 < settings["num_classes"] <= description.MAX_CLASSES:
        raise WeightsError(
            f"{checkpoint.origin} is a {name} without classes: build a net for your classes, and load this file by "
            "resdet.weights.load with new_classifier=True."
        )
    categories = layout.classes_of(settings)
    task = {"task": "detection", "data": "coco"} if layout.detector else {"task": "classification"}
    description.refuse_absurd_counts({"model": settings}, checkpoint.origin)
    experiment = configs.from_dict({**task, "model": settings}, what := f"the net of {checkpoint.origin}")
    try:
        return build_with_weights(build_for, experiment, categories.names, categories.ids, checkpoint, what)
    except load_weights.Mismatch as problem:
        raise WeightsError(
            f"{checkpoint.origin} has the tensor names of a {name}, but is a different, unsupported net "
            f"({problem.differences}): docs/weights.md lists the supported ones."
        ) from None
