"""Metrics of detections on a data set, according to the settings of `eval`."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from resdet.detection.config import DetectionEvalConfig
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.validation import brief
from resdet.detection.evaluation import coco
from resdet.detection.evaluation.ground_truth import Kind, Truth
from resdet.detection.evaluation.protocols import COCO, evaluators
from resdet.detection.evaluation.results import Results, ResultsLike
from resdet.errors import ConfigError, DataError

COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
PREFIXES: dict[Kind, str] = {"bbox": "", "segm": "mask_", "keypoints": "keypoint_"}


def headline_metrics(
    settings: DetectionEvalConfig,
    source: Annotations,
    results: Results,
    kinds: Sequence[Kind],
    left_out: Sequence[int] = (),
) -> dict[str, float]:
    """Returns the main metrics of the protocol `settings.metric`, without undefined ones."""
    if settings.metric != COCO:
        metrics = evaluate_by(settings.metric, truth_of(source, left_out), results)
        if "mAP" not in metrics:
            raise ConfigError(
                f"The evaluator {settings.metric} returns no mAP, which selects the best checkpoint, only "
                f"{', '.join(metrics) or 'an empty dict'}: add mAP to its metrics.",
                "eval.metric",
            )
        return defined({"mAP": metrics["mAP"]} | {k: v for k, v in metrics.items() if k != "per_class"}, source)
    return coco_headline(coco_evaluations(settings, source, results, kinds, left_out), source)


def evaluate_by(metric: str, annotations: Truth, results: ResultsLike) -> dict[str, Any]:
    """Returns a registered evaluator's metrics as floats, None if undefined, and its "per_class", if any, with NumPy
    scalars converted to Python numbers for JSON and tables."""
    metrics = evaluators[metric](annotations, results)
    classes = {
        name: {column: value.item() if isinstance(value, np.generic) else value for column, value in row.items()}
        for name, row in metrics.get("per_class", {}).items()
    }
    return {k: classes if k == "per_class" else as_float(v, k, metric) for k, v in metrics.items()}


def as_float(value: Any, name: str, metric: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real):
        raise ConfigError(
            f"The evaluator {metric} returns {brief(value)} as {name}: a metric is a number, or None where it "
            "is undefined.",
            "eval.metric",
        )
    return float(value)


def coco_evaluations(
    settings: DetectionEvalConfig,
    source: Annotations,
    results: Results,
    kinds: Sequence[Kind],
    left_out: Sequence[int] = (),
) -> dict[Kind, coco.Evaluation]:
    """Runs COCO's evaluations of boxes, masks and keypoints."""
    sigmas = settings.keypoint_sigmas
    return {kind: coco.match(truth_of(source, left_out, kind), results, kind, sigmas=sigmas) for kind in kinds}


def coco_headline(evaluations: Mapping[Kind, coco.Evaluation], source: Annotations) -> dict[str, float]:
    """Returns COCO's main metrics, without undefined ones."""
    summaries = {PREFIXES[kind]: each.summary() for kind, each in evaluations.items()}
    return defined(
        {
            f"{prefix}{name}": values[name]
            for prefix, values in summaries.items()
            for name in COCO_METRICS
            if name in values
        },
        source,
    )


def truth_of(source: Annotations, left_out: Sequence[int] = (), kind: Kind = "bbox") -> Truth:
    """Returns the ground truth for evaluators, without left-out images (their objects are then ignored) and, for masks,
    without objects that lack one. For a valid COCO file this is its path, which evaluators read faster."""
    maskless = kind == "segm" and len(source.maskless()) > 0
    if source.file is not None and source.intact and not left_out and not maskless:
        return source.file
    content, excluded = source.to_coco(), {source.result_id(index) for index in left_out}
    content["images"] = [image for image in content["images"] if image["id"] not in excluded]
    if maskless:
        content["annotations"] = [entry for entry in content["annotations"] if entry.get("segmentation")]
    return content


def defined(values: dict[str, float | None], source: Annotations) -> dict[str, float]:
    """Removes undefined metrics; raises DataError if the first one is undefined."""
    first = next(iter(values))
    if values[first] is None:
        raise DataError(
            f"{source.root or 'the validation set'} has no objects to evaluate detections with: check data.val."
        )
    return {name: value for name, value in values.items() if value is not None}
