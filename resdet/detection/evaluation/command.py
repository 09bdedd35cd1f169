"""`resdet evaluate` with detector weights: metrics on a config's validation data, or on another split."""

from collections.abc import Sequence
from typing import Any

from resdet.data.loader import Notes
from resdet.detection.config import DetectionEvalConfig, DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import ScenesConfig
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation import tables
from resdet.detection.evaluation.category_map import CategoryMap
from resdet.detection.evaluation.evaluate import DatasetDetections, detect, kinds_of
from resdet.detection.evaluation.ground_truth import Kind
from resdet.detection.evaluation.metrics import PREFIXES, coco_evaluations, evaluate_by, truth_of
from resdet.detection.evaluation.protocols import COCO
from resdet.detection.model import Detector
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.files.atomic import check_not_inputs, write_json
from resdet.progress import Activity
from resdet.tasks import EvaluateOptions


def evaluate(models: Sequence[Detector], experiment: DetectionExperiment, options: EvaluateOptions) -> dict[str, Any]:
    """Computes metrics of boxes, and of predicted masks and keypoints, for a detector or an ensemble.

    Returns {} except on rank 0.
    """
    world = distributed.join(experiment.train.device)
    try:
        with Activity("opening the data"):
            source = open_split(experiment.scenes, options.split)
        check_not_inputs({"--save": options.save, "--json": options.json}, [source.file] if source.file else [])
        check_keypoints(models, source)
        detections = check_and_detect(models, source, experiment, world)
    finally:
        distributed.leave()
    if not world.is_main:
        return {}
    if options.save:
        detections.results.save(options.save)
    kinds = [kind for kind in PREFIXES if any(kind in kinds_of(model) for model in models)]
    return print_metrics(detections, source, experiment.eval, kinds, options.per_class, options.json)


def open_split(scenes: ScenesConfig, split: str | None) -> Annotations:
    """Opens the given split, else `val`; checks only a given one, since this lists the files of the folder."""
    if split is not None and split not in scenes.splits:
        raise ConfigError(f"{scenes.root} has no split {split}: --split takes {', '.join(scenes.splits)}.")
    return open_scenes(scenes, split or "val")


def check_and_detect(
    models: Sequence[Detector], source: Annotations, experiment: DetectionExperiment, world: World
) -> DatasetDetections:
    """Runs a model or an ensemble on the device of this process; prints a note on differing classes."""
    note = CategoryMap.of(models[0], source).note
    if note and world.is_main:
        print(f"{note}\n")
    return detect([model.to(world.device) for model in models], source, experiment, world, Notes(print))


def check_annotations(models: Sequence[Detector], source: Annotations) -> str | None:
    """Rejects data whose categories or keypoints do not match a model or an ensemble; returns a note on differing ids
    or names."""
    check_keypoints(models, source)
    return CategoryMap.of(models[0], source).note


def check_keypoints(models: Sequence[Detector], source: Annotations) -> None:
    """Rejects data whose keypoints do not match a model or an ensemble."""
    names = next((model.keypoints.keypoint_names for model in models if model.draws_keypoints), None)
    if names is not None and (source.keypoints is None or len(source.keypoints.names) != len(names)):
        count = "no" if source.keypoints is None else len(source.keypoints.names)
        raise ConfigError(
            f"The model has {len(names)} keypoints and the annotations have {count}: choose the data it was trained "
            "for, for COCO annotations/person_keypoints_val2017.json in data.val.annotations."
        )
    if names is not None and source.keypoints is not None:
        order = source.keypoints.names
        if order != names and sorted(order) == sorted(names):
            raise ConfigError(
                f"The model has its keypoints in the order {', '.join(names[:3])} … and the annotations in the order "
                f"{', '.join(order[:3])} …: reorder those of the annotations."
            )


def print_metrics(
    detections: DatasetDetections,
    source: Annotations,
    settings: DetectionEvalConfig,
    kinds: Sequence[Kind],
    per_class: bool,
    json_path: str | None,
) -> dict[str, Any]:
    """Prints the metrics, writes them as JSON if requested, and returns them."""
    results, losses, left_out = detections.results, detections.losses, detections.left_out
    with Activity("computing metrics"):
        if settings.metric != COCO:
            metrics = {"bbox": evaluate_by(settings.metric, truth_of(source, left_out), results)}
        else:
            evaluations = coco_evaluations(settings, source, results, kinds, left_out)
            metrics = {kind: each.summary() for kind, each in evaluations.items()}
    for kind, values in metrics.items():
        print(f"{kind}\n\n{tables.summary_table(values)}\n")
        if per_class:
            print(f"{tables.per_class_table(values)}\n")
    if losses:
        print("losses  " + "  ".join(f"{name} {value:.4f}" for name, value in losses.items()))
    write_json(json_path, {**metrics, "losses": losses})
    return metrics
