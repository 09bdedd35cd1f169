"""`resdet evaluate` for classifiers: errors of a model or an ensemble, and submissions to the test server."""

from collections.abc import Sequence

from resdet.classification import submission
from resdet.classification.config import ClassificationExperiment
from resdet.classification.data.config import ImageNetConfig
from resdet.classification.data.imagenet import devkit_ids
from resdet.classification.evaluate import scored_images, tally
from resdet.classification.metrics import ClassificationMetrics, has_top5, per_class_table
from resdet.classification.model import Classifier
from resdet.classification.validation import match, open_validation
from resdet.data.loader import Skipped
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.errors import ConfigError, number_of
from resdet.files.atomic import write_json
from resdet.progress import Activity
from resdet.tasks import EvaluateOptions


def evaluate(
    models: Sequence[Classifier],
    weights: Sequence[str],
    experiment: ClassificationExperiment,
    options: EvaluateOptions,
) -> dict[str, float]:
    """Returns the errors of the averaged scores of all models."""
    world = distributed.join(experiment.train.device)
    try:
        models = [model.to(world.device) for model in models]
        check_ensemble(models, weights, experiment.eval.views)
        if options.submission:
            return submit(models, experiment, world, options.submission)
        metrics = compute_metrics(models, experiment, world)
    finally:
        distributed.leave()
    if world.is_main:
        print_metrics(metrics, models[0].classes, options.per_class, options.json)
    return metrics.summary()


def check_ensemble(models: Sequence[Classifier], paths: Sequence[str], views: str) -> None:
    """Refuses models with different classes or test crops (`views`), whose scores cannot be averaged. Refuses exported
    files for dense views, whose images have several sizes."""
    first = models[0]
    for model, path in zip(models, paths):
        if model.exported and views == "dense":
            raise ConfigError(
                f"{path} is an exported file, of one image size: set eval.views=center, or evaluate its checkpoint."
            )
        if len(model.classes) != len(first.classes):
            number = number_of(len(model.classes), "class", "classes")
            raise ConfigError(
                f"{path} has {number} but {paths[0]} has {len(first.classes)}: "
                "an ensemble needs nets of the same classes."
            )
        if model.classes != first.classes and set(model.classes) == set(first.classes):
            raise ConfigError(
                f"{path} and {paths[0]} have the same classes in another order: an ensemble needs one order."
            )
        if views != "dense" and (model.size, model.short) != (first.size, first.short):
            raise ConfigError(
                f"{path} is tested on crops of {model.size} pixels at a short side of {model.short}, and {paths[0]} of "
                f"{first.size} at {first.short}: give nets with one crop, or set eval.views=dense."
            )


def compute_metrics(
    models: Sequence[Classifier], experiment: ClassificationExperiment, world: World
) -> ClassificationMetrics:
    with Activity("opening the data"):
        images = open_validation(experiment, world, Skipped(print))
    notes = [images.note, match(images, "The model", models[0].classes)]
    if world.is_main:
        print("".join(f"{note}\n" for note in notes if note), end="")
    return tally(images.scored(models), len(models[0].classes), world.device)


def print_metrics(
    metrics: ClassificationMetrics, classes: Sequence[str], per_class: bool, json_path: str | None
) -> None:
    top5 = f", top-5 error {100 * metrics.top5_error:.2f} %" if has_top5(len(classes)) else ""
    images = number_of(metrics.images, "image")
    print(f"{images}: top-1 error {100 * metrics.error:.2f} %{top5}, loss {metrics.loss:.4f}")
    if per_class:
        print(per_class_table(metrics, list(classes)))
    table = {name: row for name, row in zip(classes, metrics.per_class.tolist())}
    write_json(json_path, {"images": metrics.images, **metrics.summary(), "per_class": table})


def submit(
    models: Sequence[Classifier], experiment: ClassificationExperiment, world: World, path: str
) -> dict[str, float]:
    """Writes the top five classes of each test image for the ILSVRC server."""
    world.require_single()
    if not isinstance(experiment.data, ImageNetConfig):
        raise ConfigError("A submission needs ImageNet's test images: use a config with data.name: imagenet.")
    devkit = devkit_ids(experiment.data.root)
    source = experiment.data.open("test")
    rows: list[list[int]] = []
    skipped, options = Skipped(print), world.options(experiment.data)
    for scores, _, _ in scored_images(models, source, experiment.eval, world.device, skipped=skipped, **options):
        rows += scores.topk(5).indices.tolist()
    submission.write_classification(path, rows, sorted(devkit), devkit)
    submission.check_classification(path, len(source), len(devkit))
    print(f"{path}: {number_of(len(rows), 'image')}")
    return {}
