"""A custom evaluator: a function of annotations and results in COCO's formats.

resdet train --config custom.yaml --import evaluator eval.metric=loose
resdet evaluate --annotations gt.json --results dets.json --import evaluator --protocol loose
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import resdet
from resdet.detection.evaluation import voc
from resdet.detection.evaluation.results import Results


@resdet.detection.register_evaluator("loose")
def loose(annotations: str | Path | dict, results: str | Path | Sequence[dict] | Results) -> dict[str, Any]:
    """Computes AP at an IoU of 0.3. "mAP" selects the best checkpoint; `--per-class` prints "per_class"."""
    return voc.evaluate(annotations, results, metric="area", iou=0.3)
