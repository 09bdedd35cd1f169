"""Mean average precision of ILSVRC's detection task (Table 12), by the rules of its devkit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.detection.data.annotations import BLACKLISTED
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.average_precision import TRUE, Scene, area_ap, summarize
from resdet.detection.evaluation.results import Results, as_results

TOLERANCE = 10  # pixels by which a box may be too large in each direction


def evaluate_det(annotations: str | Path | dict, results: str | Path | Sequence[dict] | Results) -> dict[str, Any]:
    """{"mAP", "per_class": {name: {"AP", "objects"}}}, the area under the curve; None for a class without objects.

    By falling score, each detection takes the object of its class which it overlaps most among those that are left
    and that it overlaps enough: `thresholds`. All objects count, as the devkit knows no difficult ones, but for those
    of the classes that its blacklist names for an image ("blacklisted_category_ids"), nor do detections of these.
    """
    scene = Scene.read(*without_blacklisted(ground_truth.read(annotations), as_results(results)))
    return summarize(scene, match(scene), np.ones(len(scene.labels), bool), area_ap)


def without_blacklisted(truth: dict[str, list[dict]], results: Results) -> tuple[dict[str, list[dict]], Results]:
    """Nothing is left of the classes that an image's blacklist names, neither objects nor detections."""
    pairs = {(image["id"], category) for image in truth["images"] for category in image.get(BLACKLISTED, ())}
    if not pairs:
        return truth, results
    kept = [entry for entry in truth["annotations"] if (entry["image_id"], entry["category_id"]) not in pairs]
    found = zip(results.image_ids.tolist(), results.category_ids.tolist())
    rows = np.fromiter((pair not in pairs for pair in found), bool, len(results))
    return truth | {"annotations": kept}, results.where(rows)


def thresholds(boxes: np.ndarray) -> np.ndarray:
    """Boxes [n, 4] x, y, width, height -> [n]: min(0.5, wh / ((w + 10)(h + 10))), so that few pixels forgive more."""
    width, height = boxes[:, 2], boxes[:, 3]
    return np.minimum(0.5, width * height / ((width + TOLERANCE) * (height + TOLERANCE)))


def match(scene: Scene) -> np.ndarray:
    """TRUE or FALSE for each detection."""
    outcomes = np.zeros(len(scene.detected), np.int64)
    taken = np.zeros(len(scene.labels), bool)
    enough = scene.pairs.overlaps >= thresholds(scene.boxes)[scene.pairs.objects]
    pairs = zip(scene.pairs.detections[enough].tolist(), scene.pairs.objects[enough].tolist())
    for detection, thing in pairs:
        if not outcomes[detection] and not taken[thing]:
            outcomes[detection] = TRUE
            taken[thing] = True
    return outcomes
