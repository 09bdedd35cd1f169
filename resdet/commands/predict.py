"""`resdet predict`: a checkpoint on image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet import config, hub
from resdet.data.folder import is_image
from resdet.engine import distributed
from resdet.errors import ConfigError, DataError
from resdet.files.atomic import write_json
from resdet.tasks import PredictOptions, tasks


def sorted_words(first: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Weights, images and settings among the words of the command; argparse takes images after --weights for weights.

    The first of these is a file of weights whatever its name; of the others, what is a folder or is called an image
    is one.
    """
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
    if len({tasks[model.task].kind for model in models}) > 1:
        raise ConfigError(
            f"{' '.join(weights)} do not go together: predict takes one classifier, several detectors, or several "
            "localizers."
        )
    task = tasks[models[0].task]
    if classifiers and "classifiers" not in task.evaluate_options:
        raise ConfigError("--classifier is for localizers, which are told the classes of an image.")
    nets = {path: hub.load(path) for path in classifiers}
    options = PredictOptions(top, score, Path(draw) if draw else None, overrides, nets)
    rows = task.predict(models, weights, paths, options)
    # Images are looked at as rows are asked for; without a file none of these is kept.
    write_json(json_path, [row for row in rows if json_path])


def open_model(path: str) -> Any:
    """On the GPU where there is one; an exported file runs where its runtime does."""
    model = hub.load(path)
    return model if model.exported else model.to(distributed.choose_device("auto"))


def list_images(names: Sequence[str]) -> list[Path]:
    paths = []
    for path in map(Path, names):
        found = sorted(p for p in path.iterdir() if is_image(p.name)) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} has no images in it: name another folder, or the files.")
        paths += found
    return paths
