"""Mean average precision of ILSVRC's detection task (Table 12), as in the devkit."""

from typing import Any

import numpy as np

from resdet.detection.data.annotations import BLACKLISTED
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.average_precision import FALSE, TRUE, EvaluationData, area_ap, summarize
from resdet.detection.evaluation.ground_truth import Truth
from resdet.detection.evaluation.results import Results, ResultsLike, as_results

TOLERANCE = 10  # pixels added to each side in the IoU threshold


def evaluate_det(annotations: Truth, results: ResultsLike) -> dict[str, Any]:
    """Returns {"mAP", "per_class": {name: {"AP", "objects"}}}; AP is the area under the curve, None without objects.

    Detections, by descending score, match the unmatched object of their class with the largest overlap that reaches its
    threshold (`thresholds`). The devkit has no difficult objects. Objects and detections of an image's blacklisted
    classes ("blacklisted_category_ids") are removed.
    """
    data = EvaluationData.read(*without_blacklisted(ground_truth.read(annotations), as_results(results)))
    return summarize(data, outcomes_of(match(data)), np.ones(len(data.labels), bool), area_ap)


def without_blacklisted(truth: dict[str, list[dict]], results: Results) -> tuple[dict[str, list[dict]], Results]:
    """Removes objects and detections of the blacklisted classes of each image."""
    pairs = {(image["id"], category) for image in truth["images"] for category in image.get(BLACKLISTED, ())}
    if not pairs:
        return truth, results
    kept = [entry for entry in truth["annotations"] if (entry["image_id"], entry["category_id"]) not in pairs]
    detected = zip(results.image_ids.tolist(), results.category_ids.tolist())
    rows = np.fromiter((pair not in pairs for pair in detected), bool, len(results))
    return truth | {"annotations": kept}, results.where(rows)


def thresholds(boxes: np.ndarray) -> np.ndarray:
    """Returns IoU thresholds [n] of boxes [n, 4], x, y, width, height: min(0.5, wh / ((w + 10)(h + 10)))."""
    width, height = boxes[:, 2], boxes[:, 3]
    return np.minimum(0.5, width * height / ((width + TOLERANCE) * (height + TOLERANCE)))


def match(data: EvaluationData) -> np.ndarray:
    """Returns the object of each detection, int64 [n]; -1 for none."""
    object_of = np.full(len(data.detected), -1)
    matched = np.zeros(len(data.labels), bool)
    enough = data.pairs.overlaps >= thresholds(data.boxes)[data.pairs.objects]
    pairs = zip(data.pairs.detections[enough].tolist(), data.pairs.objects[enough].tolist())
    for detection, item in pairs:
        if object_of[detection] < 0 and not matched[item]:
            object_of[detection] = item
            matched[item] = True
    return object_of


def outcomes_of(object_of: np.ndarray) -> np.ndarray:
    return np.where(object_of >= 0, TRUE, FALSE)
