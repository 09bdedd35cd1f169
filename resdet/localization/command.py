"""`resdet evaluate` for localizers: the rows of Table 13, and submissions to the test server."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from resdet.classification.data.imagenet import devkit_ids
from resdet.classification.model import Classifier
from resdet.data.class_names import compare_classes
from resdet.data.loader import Notes, Skipped
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.errors import ConfigError, number_of
from resdet.files.atomic import write_json
from resdet.images.decode import Source
from resdet.localization import loc_error
from resdet.localization.classify_and_locate import check_classifier
from resdet.localization.config import LocalizerExperiment
from resdet.localization.data.config import LocalizationConfig
from resdet.localization.data.test_set import localization_test
from resdet.localization.evaluate import best_classes, errors, locate_all
from resdet.localization.locate import Locator
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.tasks import EvaluateOptions


def evaluate(
    models: Sequence[Localizer | LocalizerRCNN], experiment: LocalizerExperiment, options: EvaluateOptions
) -> dict[str, float]:
    """Returns the error with the ground-truth class, and with classifiers also that of their top five classes."""
    world = distributed.join(experiment.train.device)
    try:
        locator = Locator([model.to(world.device) for model in models], experiment.eval)
        nets = [
            check_classifier(net, locator.classes, f"--classifier {path}").to(world.device)
            for path, net in options.classifiers.items()
        ]
        if options.submission:
            return submit(locator, nets, experiment, world, options.submission)
        metrics = compute_metrics(locator, nets, experiment, world)
    finally:
        distributed.leave()
    if world.is_main:
        print("  ".join(f"{name} {100 * value:.2f} %" for name, value in metrics.items()))
        write_json(options.json, metrics)
    return metrics


def compute_metrics(
    locator: Locator, nets: Sequence[Classifier], experiment: LocalizerExperiment, world: World
) -> dict[str, float]:
    source = cast(LocalizationConfig, experiment.data).open("val")
    note = compare_classes("The model", locator.classes, source.classes)
    for sentence in (*source.problems, *([note] if note else [])) if world.is_main else ():
        print(sentence)
    guessed = predict_classes(nets, source, experiment, world) if nets else None
    labels = source.labels[:, None]
    classes = labels if guessed is None else np.concatenate([labels, guessed], 1)
    located = locate_all(locator, source, classes, experiment.eval, Notes(print), **world.options(experiment.data))
    return errors(source, located, guessed)


def predict_classes(
    nets: Sequence[Classifier], source: Source, experiment: LocalizerExperiment, world: World
) -> np.ndarray:
    options = world.options(experiment.data)
    return best_classes(nets, source, experiment.eval, world.device, Skipped(print), **options)


def submit(
    locator: Locator, nets: Sequence[Classifier], experiment: LocalizerExperiment, world: World, path: str
) -> dict[str, float]:
    """Writes five classes and their boxes for each test image, for the ILSVRC server."""
    world.require_single()
    if not nets:
        raise ConfigError("The classes of the test images are unknown: add --classifier.")
    root = cast(LocalizationConfig, experiment.data).root
    devkit, source = devkit_ids(root), localization_test(root)
    guessed = predict_classes(nets, source, experiment, world)
    located = locate_all(locator, source, guessed, experiment.eval, Notes(print), **world.options(experiment.data))
    if len(located.indices) < len(source):
        raise ConfigError("The server needs a line for each test image: restore the unreadable images reported above.")
    loc_error.write_localization(path, guessed, located.boxes, sorted(devkit), devkit)
    loc_error.check_localization(path, len(source), len(devkit))
    print(f"{path}: {number_of(len(source), 'image')}")
    return {}
