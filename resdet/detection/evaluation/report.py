"""`resdet evaluate` with a detector's weights: its detections on the data of a config, judged."""

from collections.abc import Sequence
from typing import Any

from resdet.data.loader import Notes
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation import coco, tables
from resdet.detection.evaluation.evaluate import Judged, judge, truth_of
from resdet.detection.evaluation.protocols import COCO, evaluators
from resdet.detection.model import Detector
from resdet.engine import distributed
from resdet.errors import ConfigError
from resdet.files.atomic import write_json
from resdet.tasks import EvaluateOptions


def evaluate(models: Sequence[Detector], experiment: DetectionExperiment, options: EvaluateOptions) -> dict[str, Any]:
    """The metrics of boxes, and of masks where they are drawn, of one detector or of several as an ensemble."""
    world = distributed.join(experiment.train.device)
    try:
        source = open_scenes(experiment.data, "val")
        check_classes(models[0], source)
        models = [model.to(world.device) for model in models]
        judged = judge(models, source, experiment, world, Notes(print))
    finally:
        distributed.leave()
    if not world.is_main:
        return {}
    if options.save:
        judged.results.save(options.save)
    masks = any(model.draws_masks for model in models)
    return report(judged, source, experiment.eval.metric, masks, options.per_class, options.json)


def check_classes(model: Detector, source: Annotations) -> None:
    """Weights of other libraries know numbers alone: then the ids must suffice."""
    if not set(source.category_ids) <= set(model.category_ids):
        raise ConfigError(
            f"The model has {len(model.category_ids)} classes and the data {len(source.category_ids)} others: "
            "name the data it was trained for."
        )


def report(
    judged: Judged, source: Annotations, metric: str, masks: bool, per_class: bool, json_path: str | None
) -> dict[str, Any]:
    truth = truth_of(source, judged.left_out)
    if metric != COCO:
        found = {"bbox": evaluators[metric](truth, judged.results)}
    else:
        found = {kind: coco.evaluate(truth, judged.results, kind) for kind in ["bbox"] + ["segm"] * masks}
    for kind, figures in found.items():
        print(f"{kind}\n\n{tables.summary_table(figures)}\n")
        if per_class:
            print(f"{tables.per_class_table(figures)}\n")
    if judged.losses:
        print("losses  " + "  ".join(f"{name} {value:.4f}" for name, value in judged.losses.items()))
    write_json(json_path, {**found, "losses": judged.losses})
    return found
