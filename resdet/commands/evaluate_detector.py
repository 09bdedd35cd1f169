"""`resdet evaluate` with a detector's weights: its detections on the data of a config, judged."""

from collections.abc import Sequence
from typing import Any

from resdet import config
from resdet.data.annotations import Annotations
from resdet.data.loader import Notes
from resdet.data.sources import open_scenes
from resdet.engine import distributed
from resdet.errors import ConfigError
from resdet.evaluation import coco, tables
from resdet.evaluation.detection import Judged, judge, truth_of
from resdet.evaluation.protocols import PROTOCOLS
from resdet.models.detector import Detector
from resdet.writing import write_json


def evaluate_detector(
    models: Sequence[Any],
    weights: Sequence[str],
    experiment: Any = None,
    overrides: Sequence[str] = (),
    per_class: bool = False,
    json_path: str | None = None,
    save: str | None = None,
) -> dict[str, Any]:
    """The figures of boxes, and of masks where they are drawn, of one detector or of several as an ensemble.

    `save` keeps the detections themselves.
    """
    if experiment is None:
        if not models[0].experiment.get("data"):
            raise ConfigError(f"{weights[0]} does not say which data to judge it on: give --config.")
        experiment = config.from_dict(models[0].experiment, f"the config inside {weights[0]}", tuple(overrides))
    world = distributed.join(experiment.train.device)
    try:
        source = open_scenes(experiment.data, "val")
        check_classes(models[0], source)
        models = [model.to(world.device) for model in models]
        judged = judge(models, source, experiment, world, Notes(print))
    finally:
        distributed.leave()
    if not world.leads:
        return {}
    if save:
        judged.results.save(save)
    masks = any(model.draws_masks for model in models)
    return report(judged, source, experiment.eval.metric, masks, per_class, json_path)


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
    if metric != "coco":
        found = {"bbox": PROTOCOLS[metric](truth, judged.results)}
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
