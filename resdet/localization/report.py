"""`resdet evaluate` for localizers: the rows of Table 13, and the test server's file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from resdet.classification.data.imagenet import devkit_ids
from resdet.data.loader import Notes, Skipped
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.engine.sharing import require_single_process, sharing
from resdet.errors import ConfigError
from resdet.files.atomic import write_json
from resdet.localization import loc_error
from resdet.localization.classify_and_locate import check_classifier
from resdet.localization.config import LocalizationExperiment
from resdet.localization.data.sources import open_localized
from resdet.localization.data.test_set import localization_test
from resdet.localization.evaluate import best_classes, errors, locate_all
from resdet.localization.locate import Locator
from resdet.tasks import EvaluateOptions


def evaluate(
    models: Sequence[nn.Module], experiment: LocalizationExperiment, options: EvaluateOptions
) -> dict[str, float]:
    """The error with the ground-truth class, and with classifiers that of the five classes that they predict."""
    world = distributed.join(experiment.train.device)
    try:
        locator = Locator([model.to(world.device) for model in models], experiment.eval)
        for path, net in options.classifiers.items():
            check_classifier(net, locator.classes, f"--classifier {path}")
        nets = [net.to(world.device) for net in options.classifiers.values()]
        if options.submission:
            return submit(locator, nets, experiment, world, options.submission)
        figures = judge(locator, nets, experiment, world)
    finally:
        distributed.leave()
    if world.is_main:
        print("  ".join(f"{name} {100 * value:.2f} %" for name, value in figures.items()))
        write_json(options.json, figures)
    return figures


def judge(locator: Locator, nets: Sequence[nn.Module], experiment: Any, world: World) -> dict[str, float]:
    source = open_localized(experiment.data, "val")
    if len(source.classes) != len(locator.classes):
        raise ConfigError(
            f"The model has {len(locator.classes)} classes and the data {len(source.classes)}: "
            "name the data it was trained for."
        )
    for sentence in source.problems if world.is_main else []:
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
    require_single_process(world)
    if not nets:
        raise ConfigError("The test images' classes are not known: add --classifier.")
    devkit, source = devkit_ids(experiment.data.root), localization_test(experiment.data.root)
    guessed = guess(nets, source, experiment, world)
    located = locate_all(locator, source, guessed, experiment.eval, Notes(print), **sharing(experiment.data, world))
    if len(located.indices) < len(source):
        raise ConfigError("The server wants a line for each test image: restore those that could not be read.")
    loc_error.write_localization(path, guessed, located.boxes, sorted(devkit), devkit)
    loc_error.check_localization(path, len(source), len(devkit))
    print(f"{path}: {len(source)} images")
    return {}
