"""`resdet evaluate`: one checkpoint, or several as an ensemble, on the data of a config."""

from collections.abc import Sequence
from typing import Any

from resdet import config
from resdet.commands.evaluate_detector import evaluate_detector
from resdet.commands.evaluate_localizer import evaluate_localizer
from resdet.commands.sharing import refuse_several, sharing
from resdet.commands.submit_detections import submit_detections
from resdet.data.config import ImageNetConfig, ImagesConfig
from resdet.data.loader import Skipped
from resdet.data.resident import ResidentEvaluation
from resdet.data.sources import open_images, open_resident
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.evaluation import ilsvrc
from resdet.evaluation.classification import ClassificationFigures, per_class_table
from resdet.evaluation.views import evaluate_resident, evaluate_views, scored_images
from resdet.inference.exported import Exported
from resdet.models import building
from resdet.models.detector import Detector
from resdet.models.localizer import Localizer
from resdet.models.localizer_rcnn import LocalizerRCNN
from resdet.writing import write_json

LOCALIZERS = (Localizer, LocalizerRCNN)


def evaluate(
    weights: Sequence[str],
    experiment: Any = None,
    overrides: Sequence[str] = (),
    per_class: bool = False,
    json_path: str | None = None,
    submission: str | None = None,
    save: str | None = None,
    classifiers: Sequence[str] = (),
) -> dict[str, float]:
    """Errors of the averaged scores of all `weights`, on the data of `experiment`, or of the first checkpoint's."""
    models = [building.load(path) for path in weights]
    check_tasks(models, weights, experiment)
    check_options(models[0], weights[0], per_class, save, classifiers)
    if isinstance(models[0], Detector):
        if submission:
            experiment = experiment or config.from_dict(
                models[0].experiment, f"the config inside {weights[0]}", tuple(overrides)
            )
            return submit_detections(models, experiment, submission)
        return evaluate_detector(models, weights, experiment, overrides, per_class, json_path, save)
    if isinstance(models[0], LOCALIZERS):
        return evaluate_localizer(models, weights, experiment, overrides, classifiers, json_path, submission)
    if experiment is None:
        experiment = config.from_dict(models[0].experiment, f"the config inside {weights[0]}", tuple(overrides))
    world = distributed.join(experiment.train.device)
    try:
        models = [model.to(world.device) for model in models]
        check_alike(models, weights)
        if submission:
            return submit(models, experiment, world, submission)
        figures = judge(models, experiment, world)
    finally:
        distributed.leave()
    if world.leads:
        report(figures, models[0].classes, per_class, json_path)
    return figures.summary()


def check_tasks(models: Sequence[Any], paths: Sequence[str], experiment: Any) -> None:
    wanted, whose = models[0].experiment["task"], paths[0]
    if experiment is not None:
        wanted, whose = experiment.task, "the config"
    for model, path in zip(models, paths):
        if isinstance(model, Exported):
            raise ConfigError(f"{path} is an exported file: judge the checkpoint that it was made of.")
        task = model.experiment["task"]
        if task != wanted:
            raise ConfigError(f"{path} is of the task {task} and {whose} of {wanted}: give what fits together.")


def check_options(model: Any, path: str, per_class: bool, save: str | None, classifiers: Sequence[str]) -> None:
    if per_class and isinstance(model, LOCALIZERS):
        raise ConfigError(f"--per-class is for classifiers and detectors, and {path} is a localizer: leave it out.")
    if save and not isinstance(model, Detector):
        raise ConfigError(f"--save keeps a detector's detections, and {path} is none: --json writes its figures.")
    if classifiers and not isinstance(model, LOCALIZERS):
        raise ConfigError(f"--classifier is for localizers, which are told the classes of an image: {path} is none.")


def check_alike(models: Sequence[Any], paths: Sequence[str]) -> None:
    for model, path in zip(models, paths):
        if len(model.classes) != len(models[0].classes):
            raise ConfigError(
                f"{path} has {len(model.classes)} classes and {paths[0]} has {len(models[0].classes)}: "
                "an ensemble needs nets of the same classes."
            )


def judge(models: Sequence[Any], experiment: Any, world: World) -> ClassificationFigures:
    data = experiment.data
    if not isinstance(data, ImagesConfig):
        images = open_resident(data, "val", world.device)
        batches = ResidentEvaluation(images, experiment.eval.batch, world.rank, world.size)
        return evaluate_resident(models, batches, world.device)
    source = open_images(data, "val")
    check_classes(models[0].classes, source.classes)
    skipped = Skipped(print, set())
    return evaluate_views(models, source, experiment.eval, world.device, skipped=skipped, **sharing(data, world))


def check_classes(model: Sequence[str], data: Sequence[str]) -> None:
    if len(model) != len(data):
        raise ConfigError(
            f"The model has {len(model)} classes and the data {len(data)}: name the data it was trained for."
        )


def report(figures: ClassificationFigures, classes: Sequence[str], per_class: bool, json_path: str | None) -> None:
    print(
        f"{figures.images} images: top-1 error {100 * figures.error:.2f} %, "
        f"top-5 error {100 * figures.top5_error:.2f} %, loss {figures.loss:.4f}"
    )
    if per_class:
        print(per_class_table(figures, list(classes)))
    table = {name: row for name, row in zip(classes, figures.per_class.tolist())}
    write_json(json_path, {"images": figures.images, **figures.summary(), "per_class": table})


def submit(models: Sequence[Any], experiment: Any, world: World, path: str) -> dict[str, float]:
    """Writes the five best classes of each test image for the ILSVRC server."""
    refuse_several(world)
    if not isinstance(experiment.data, ImageNetConfig):
        raise ConfigError("A submission is for ImageNet's test images: use a config whose data.name is imagenet.")
    from resdet.data.imagenet import devkit_ids

    devkit = devkit_ids(experiment.data.root)
    source = open_images(experiment.data, "test")
    rows, options = [], sharing(experiment.data, world)
    skipped = Skipped(print, set())
    for scores, _, _ in scored_images(models, source, experiment.eval, world.device, skipped=skipped, **options):
        rows += scores.topk(5).indices.tolist()
    ilsvrc.write_classification(path, rows, sorted(devkit), devkit)
    ilsvrc.check_classification(path, len(source), len(devkit))
    print(f"{path}: {len(rows)} images")
    return {}
