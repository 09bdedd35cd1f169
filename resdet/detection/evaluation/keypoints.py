"""COCO's average precision of keypoints, by pycocotools: object keypoint similarity (OKS) instead of IoU."""

import math
from collections.abc import Sequence

import numpy as np

from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.coco_engines import Arrays, accumulate
from resdet.detection.evaluation.ground_truth import Truth
from resdet.detection.evaluation.results import Results, ResultsLike, as_results
from resdet.errors import ConfigError, DataError
from resdet.weights import coco_keypoints


def run_keypoints(
    annotations: Truth, results: ResultsLike, max_detections: Sequence[int], sigmas: Sequence[float] | None = None
) -> Arrays:
    """Returns pycocotools' arrays; like pycocotools, ignores objects without labeled keypoints."""
    check_sigmas(sigmas or ())
    truth = ground_truth.read(annotations, "keypoints")
    results = as_results(results, "keypoints")
    results.check(truth, "keypoints")
    count = next((len(entry["keypoints"]) // 3 for entry in truth["annotations"]), None)
    if count is not None and len(results) and results.keypoints is not None and results.keypoints.shape[1] != count:
        raise DataError(
            f"{results.name} have {results.keypoints.shape[1]} keypoints and the annotations {count}: give results "
            "for the same keypoints."
        )
    deviations = np.array(sigmas_of(count, sigmas))
    params = {"maxDets": list(max_detections), "kpt_oks_sigmas": deviations}
    return accumulate(truth, detections_of(results), "keypoints", **params)


def check_sigmas(sigmas: Sequence[float]) -> None:
    for sigma in sigmas:
        if not 0 < sigma < math.inf:
            raise ConfigError(f"The sigmas of keypoints include {sigma}: give a finite number above 0 for each.")


def sigmas_of(count: int | None, sigmas: Sequence[float] | None) -> list[float]:
    """Returns the standard deviations for `count` keypoints, or for any number if None."""
    if sigmas is None:
        if count is None or count == len(coco_keypoints.SIGMAS):
            return coco_keypoints.SIGMAS
        return [float(np.mean(coco_keypoints.SIGMAS))] * count
    if count is not None and len(sigmas) != count:
        raise ConfigError(
            f"eval.keypoint_sigmas lists {len(sigmas)} numbers and the data has {count} keypoints: give one for each.",
            "eval.keypoint_sigmas",
        )
    return list(sigmas)


def detections_of(results: Results) -> list[dict]:
    """Returns detections in the format of `loadRes`, with the keypoints' box and area."""
    detections = []
    for number, entry in enumerate(results.to_list(), start=1):
        x, y = entry["keypoints"][0::3], entry["keypoints"][1::3]
        left, top, width, height = min(x), min(y), max(x) - min(x), max(y) - min(y)
        area = {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
        detections.append({**entry, "id": number, **area})
    return detections
