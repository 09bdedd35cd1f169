"""The registry of evaluators, selected by `eval.metric` and `--protocol`.

@resdet.detection.register_evaluator("my_metric")
def evaluate(annotations, results):
    return {"mAP": ..., "per_class": {"cat": {"AP": ..., "objects": ...}}}
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resdet.registry import Registry

if TYPE_CHECKING:
    from resdet.detection.evaluation.results import Results


class Evaluator(Protocol):
    """Computes metrics of boxes: "mAP", which selects the best checkpoint, "per_class", and any others."""

    def __call__(
        self, annotations: "str | Path | dict[str, Any]", results: "str | Path | Sequence[dict[str, Any]] | Results"
    ) -> dict[str, Any]:
        """`annotations` and `results` are in COCO format."""


COCO = "coco"  # also evaluates masks; its main metric is "AP" instead of "mAP"
evaluators: Registry[Evaluator] = Registry(
    "evaluator",
    "eval.metric",
    {
        COCO: "resdet.detection.evaluation.coco:evaluate",
        "voc07": "resdet.detection.evaluation.voc:evaluate_voc07",
        "voc_area": "resdet.detection.evaluation.voc:evaluate_voc_area",
        "ilsvrc_det": "resdet.detection.evaluation.ilsvrc_det:evaluate_det",
        "ilsvrc_vid": "resdet.detection.evaluation.ilsvrc_vid:evaluate_vid",
    },
)
register_evaluator = evaluators.register
