"""PASCAL VOC's average precision, by the rules of its devkit (Tables 7, 10 and 11)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resdet.detection.evaluation.average_precision import NEITHER, TRUE, Scene, area_ap, eleven_point_ap, summarize
from resdet.detection.evaluation.results import Results
from resdet.errors import ConfigError

METRICS = {"07": eleven_point_ap, "area": area_ap}


def evaluate(
    annotations: str | Path | dict,
    results: str | Path | Sequence[dict] | Results,
    metric: Literal["07", "area"] = "07",
    iou: float = 0.5,
) -> dict[str, Any]:
    """{"mAP", "per_class": {name: {"AP", "objects"}}}; "07" is the mean over eleven recalls, "area" that of VOC 2010
    and later. AP is None for a class without objects, and the mean is that of the others.

    A detection goes to the object of its class which it overlaps most, and is false where that is less than `iou` or
    the object went to a detection of higher score. Difficult objects (and COCO's crowds) count for nothing, nor do
    detections that go to them. Objects are a COCO dict or file, difficult ones with "difficult" or "ignore".
    """
    if metric not in METRICS:
        raise ConfigError(f"There is no VOC metric {metric!r}: take 07 or area.")
    scene = Scene.read(annotations, results)
    return summarize(scene, match(scene, iou), ~scene.ignored, METRICS[metric])


def match(scene: Scene, iou: float) -> np.ndarray:
    """TRUE, FALSE or NEITHER for each detection."""
    outcomes = np.zeros(len(scene.detected), np.int64)
    detections, best = np.unique(scene.pairs.detections, return_index=True)  # the pair of largest overlap comes first
    enough = scene.pairs.overlaps[best] >= iou
    detections, objects = detections[enough], scene.pairs.objects[best[enough]]
    outcomes[detections[np.unique(objects, return_index=True)[1]]] = TRUE  # who comes first of each object
    outcomes[detections[scene.ignored[objects]]] = NEITHER
    return outcomes


def evaluate_voc07(annotations: str | Path | dict, results: str | Path | Sequence[dict] | Results) -> dict[str, Any]:
    """VOC 2007's metric: the mean over eleven recalls."""
    return evaluate(annotations, results, "07")


def evaluate_voc_area(annotations: str | Path | dict, results: str | Path | Sequence[dict] | Results) -> dict[str, Any]:
    """The metric of VOC 2010 and later: the area under the curve."""
    return evaluate(annotations, results, "area")
