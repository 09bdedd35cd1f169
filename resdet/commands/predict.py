"""`resdet predict`: a checkpoint on image files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from resdet import config
from resdet.commands.evaluate_localizer import open_classifier
from resdet.engine import distributed
from resdet.errors import ConfigError, DataError
from resdet.inference.config import ShowingConfig, TestingConfig
from resdet.inference.exported import ExportedDetector
from resdet.inference.finding import Finder
from resdet.inference.testing import Tester
from resdet.models import building
from resdet.models.detector import Detector
from resdet.models.localizer import Localizer
from resdet.models.localizer_rcnn import LocalizerRCNN
from resdet.writing import write_image, write_json

DETECTORS = (Detector, ExportedDetector)
LOCALIZERS = (Localizer, LocalizerRCNN)
TOP = 5  # classes of an image, unless told otherwise


def sorted_words(first: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Weights, images and settings among the words of the command; argparse takes images after --weights for weights.

    The first of these is a file of weights whatever its name; of the others, what is a folder or is called an image
    is one.
    """
    from resdet.data.folder import is_image

    overrides = [word for word in (*first, *others) if config.is_override(word)]
    foreign = [word for word in overrides if not word.startswith("eval.")]
    if foreign:
        raise ConfigError(f"{foreign[0]} is no setting of predict, which takes those of eval alone: leave it out.")
    shown = [word for word in first[1:] if Path(word).is_dir() or is_image(word)]
    weights = [word for word in first if word not in (*shown, *overrides)]
    return weights, [*(word for word in others if word not in overrides), *shown], overrides


def predict(
    weights: Sequence[str],
    images: Sequence[str],
    top: int | None = None,
    score: float | None = None,
    json_path: str | None = None,
    draw: str | None = None,
    overrides: Sequence[str] = (),
    classifiers: Sequence[str] = (),
) -> None:
    """Prints what is in each image; folders stand for the images in them.

    Several detectors are an ensemble, and so are several localizers, which are told the classes by `classifiers`.
    `overrides` are keys of a detector's or a localizer's `eval`.
    """
    if not images:
        raise ConfigError("Nothing to look at: name images, or folders of images, before --weights or after them.")
    paths = list_images(images)
    models = [open_model(path) for path in weights]
    folder = Path(draw) if draw else None
    classes = TOP if top is None else top
    if all(isinstance(model, LOCALIZERS) for model in models):
        rows = detect(finder_of(models, weights, classifiers, classes, overrides), paths, score, folder)
    elif classifiers:
        raise ConfigError("--classifier is for localizers, which are told the classes of an image.")
    elif all(isinstance(model, DETECTORS) for model in models):
        if top is not None:
            raise ConfigError("--top is for classifiers and localizers; of a detector's boxes --score leaves some out.")
        settings = config.from_dict({"task": "detection"}, "the command line", tuple(overrides)).eval
        least = settings.score if score is None else score
        rows = detect(detector_of(models, weights, settings), paths, least, folder)
    elif len(models) > 1:
        raise ConfigError(
            f"{' '.join(weights)} do not go together: predict takes one classifier, several detectors, or several "
            "localizers."
        )
    elif score is not None or draw or overrides:
        raise ConfigError(f"{weights[0]} is a classifier: --score, --draw and eval.* are for detectors and localizers.")
    else:
        rows = classify(models[0], paths, classes)
    # Images are looked at as rows are asked for; without a file none of these is kept.
    write_json(json_path, [row for row in rows if json_path])


def open_model(path: str) -> Any:
    """On the GPU where there is one; an exported file runs where its runtime does."""
    model = building.load(path)
    return model.to(distributed.choose_device("auto")) if isinstance(model, nn.Module) else model


def classify(model: Any, paths: Sequence[Path], top: int) -> Iterator[dict]:
    for path, result in zip(paths, model.stream(paths, top=top)):
        print(f"{path}: {result}")
        scores = [round(float(score), 6) for score in result.scores]
        yield {"image": str(path), "names": result.names, "scores": scores}


def finder_of(
    models: Sequence[Any], weights: Sequence[str], classifiers: Sequence[str], top: int, overrides: Sequence[str]
) -> Finder:
    """Localizers that look for the classes that `classifiers` see."""
    if not classifiers:
        raise ConfigError(f"{weights[0]} is a localizer, which must be told the classes: name a net by --classifier.")
    settings = config.from_dict(models[0].experiment, f"the config inside {weights[0]}", tuple(overrides)).eval
    device = distributed.choose_device("auto")
    nets = [open_classifier(path, models[0].classes).to(device) for path in classifiers]
    return Finder(models, nets, settings, ShowingConfig(views=settings.classifier_views), top)


def detector_of(
    models: Sequence[Any], weights: Sequence[str], settings: TestingConfig
) -> Detector | ExportedDetector | Tester:
    """The plain detector, unless there are several or something more is asked for."""
    if len(models) == 1 and settings.plain:
        return models[0]
    for model, path in zip(models, weights):
        if isinstance(model, ExportedDetector):
            raise ConfigError(f"{path} is an exported file, which predicts alone and in one way: give its checkpoint.")
    return Tester(models, settings)


def detect(
    model: Detector | Tester | Finder, paths: Sequence[Path], score: float | None, folder: Path | None
) -> Iterator[dict]:
    for number, result in enumerate(model.stream(paths, score), 1):
        print(result)
        if folder:
            write_drawn(result, folder, number)
        yield result.to_dict()


def write_drawn(result: Any, folder: Path, number: int) -> None:
    """As folder/NUMBER_NAME.jpg: images of several folders may share a name."""
    write_image(folder / f"{number:04}_{Path(result.image).stem}.jpg", result.draw())


def list_images(names: Sequence[str]) -> list[Path]:
    from resdet.data.folder import is_image

    paths = []
    for path in map(Path, names):
        found = sorted(p for p in path.iterdir() if is_image(p.name)) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} has no images in it: name another folder, or the files.")
        paths += found
    return paths
