"""Mean average precision of ILSVRC's detection task (Table 12), by the rules of its devkit."""

from pathlib import Path
from typing import Any, Sequence

import numpy as np

from resdet.evaluation.average_precision import TRUE, Scene, area_ap, summarise
from resdet.evaluation.results import Results

TOLERANCE = 10  # pixels by which a box may be too large in each direction


def evaluate_det(annotations: str | Path | dict, results: str | Path | Sequence[dict] | Results) -> dict[str, Any]:
    """{"mAP", "per_class": {name: {"AP", "objects"}}}, the area under the curve; None for a class without objects.

    By falling score, each detection takes the object of its class which it overlaps most among those that are left
    and that it overlaps enough: `thresholds`. All objects count, as the devkit knows no difficult ones.
    """
    scene = Scene.read(annotations, results)
    return summarise(scene, match(scene), np.ones(len(scene.labels), bool), area_ap)


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
