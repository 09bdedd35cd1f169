"""`resdet evaluate` for localizers: the rows of Table 13, and the test server's file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from resdet import config
from resdet.commands.sharing import refuse_several, sharing
from resdet.data.loader import Notes, Skipped
from resdet.data.sources import open_localized
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.evaluation import ilsvrc_loc
from resdet.evaluation.localization import best_classes, errors, locate_all
from resdet.inference.finding import check_classifier
from resdet.inference.localization import Locator
from resdet.models import building
from resdet.models.classifier import Classifier
from resdet.writing import write_json


def evaluate_localizer(
    models: Sequence[Any],
    weights: Sequence[str],
    experiment: Any = None,
    overrides: Sequence[str] = (),
    classifiers: Sequence[str] = (),
    json_path: str | None = None,
    submission: str | None = None,
) -> dict[str, float]:
    """The error with the ground-truth class, and with `classifiers` that of the five classes that they predict."""
    if experiment is None:
        experiment = config.from_dict(models[0].experiment, f"the config inside {weights[0]}", tuple(overrides))
    world = distributed.join(experiment.train.device)
    try:
        locator = Locator([model.to(world.device) for model in models], experiment.eval)
        nets = [open_classifier(path, locator.classes).to(world.device) for path in classifiers]
        if submission:
            return submit(locator, nets, experiment, world, submission)
        figures = judge(locator, nets, experiment, world)
    finally:
        distributed.leave()
    if world.leads:
        print("  ".join(f"{name} {100 * value:.2f} %" for name, value in figures.items()))
        write_json(json_path, figures)
    return figures


def open_classifier(path: str, classes: Sequence[str]) -> Classifier:
    model = building.load(path)
    check_classifier(model, classes, f"--classifier {path}")
    return model


def judge(locator: Locator, nets: Sequence[nn.Module], experiment: Any, world: World) -> dict[str, float]:
    source = open_localized(experiment.data, "val")
    if len(source.classes) != len(locator.classes):
        raise ConfigError(
            f"The model has {len(locator.classes)} classes and the data {len(source.classes)}: "
            "name the data it was trained for."
        )
    for sentence in source.problems if world.leads else []:
        print(sentence)
    guessed = guess(nets, source, experiment, world) if nets else None
    own = source.labels[:, None]
    classes = own if guessed is None else np.concatenate([own, guessed], 1)
    located = locate_all(locator, source, classes, experiment.eval, Notes(print), **sharing(experiment.data, world))
    return errors(source, located, guessed)


def guess(nets: Sequence[nn.Module], source: Any, experiment: Any, world: World) -> np.ndarray:
    options = sharing(experiment.data, world)
    return best_classes(nets, source, experiment.eval, world.device, Skipped(print), **options)


def submit(locator: Locator, nets: Sequence[nn.Module], experiment: Any, world: World, path: str) -> dict[str, float]:
    """Writes five classes with a box each for every test image, for the ILSVRC server."""
    refuse_several(world)
    if not nets:
        raise ConfigError("The test images' classes are not known: add --classifier.")
    from resdet.data.imagenet import devkit_ids
    from resdet.data.test_images import localization_test

    devkit, source = devkit_ids(experiment.data.root), localization_test(experiment.data.root)
    guessed = guess(nets, source, experiment, world)
    located = locate_all(locator, source, guessed, experiment.eval, Notes(print), **sharing(experiment.data, world))
    if len(located.indices) < len(source):
        raise ConfigError("The server wants a line for each test image: restore those that could not be read.")
    ilsvrc_loc.write_localization(path, guessed, located.boxes, sorted(devkit), devkit)
    ilsvrc_loc.check_localization(path, len(source), len(devkit))
    print(f"{path}: {len(source)} images")
    return {}
