"""PASCAL VOC's average precision, as in the devkit (Tables 7, 10 and 11)."""

from functools import partial
from typing import Any, Literal

import numpy as np

from resdet.detection.evaluation.average_precision import (
    NEITHER,
    TRUE,
    EvaluationData,
    area_ap,
    eleven_point_ap,
    summarize,
)
from resdet.detection.evaluation.ground_truth import Truth
from resdet.detection.evaluation.results import ResultsLike
from resdet.errors import ConfigError

METRICS = {"07": eleven_point_ap, "area": area_ap}


def evaluate(
    annotations: Truth,
    results: ResultsLike,
    metric: Literal["07", "area"] = "07",
    iou: float = 0.5,
) -> dict[str, Any]:
    """Returns {"mAP", "per_class": {name: {"AP", "objects"}}}; "07" is the eleven-point AP, "area" the AP of VOC 2010
    and later. The AP of a class without objects is None and excluded from the mean.

    A detection is assigned to the object of its class with the largest overlap; it is false if the overlap is below
    `iou` or the object has a higher-scoring detection. Difficult objects (and COCO's crowds) and detections assigned to
    them are ignored. Annotations are a COCO dict or file, with "difficult" or "ignore" flags.
    """
    if metric not in METRICS:
        raise ConfigError(f"There is no VOC metric {metric!r}: choose 07 or area.")
    data = EvaluationData.read(annotations, results)
    return summarize(data, match(data, iou), ~data.ignored, METRICS[metric])


def match(data: EvaluationData, iou: float) -> np.ndarray:
    """Returns TRUE, FALSE or NEITHER for each detection."""
    outcomes = np.zeros(len(data.detected), np.int64)
    detections, best = np.unique(data.pairs.detections, return_index=True)  # the first pair has the largest overlap
    enough = data.pairs.overlaps[best] >= iou
    detections, objects = detections[enough], data.pairs.objects[best[enough]]
    outcomes[detections[np.unique(objects, return_index=True)[1]]] = TRUE  # the best detection of each object
    outcomes[detections[data.ignored[objects]]] = NEITHER
    return outcomes


evaluate_voc07 = partial(evaluate, metric="07")
evaluate_voc_area = partial(evaluate, metric="area")
