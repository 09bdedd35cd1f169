"""COCO's average precision and recall, of boxes and of masks (Tables 8 and 9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resdet.detection.evaluation.coco_engines import Arrays, hotcoco_evaluator, run_hotcoco, run_pycocotools
from resdet.detection.evaluation.confusion import confusion as confusion
from resdet.detection.evaluation.ground_truth import Kind
from resdet.detection.evaluation.results import Results
from resdet.errors import ConfigError

Engine = Literal["hotcoco", "pycocotools"]
Truth = str | Path | dict  # a COCO annotation file, or its content
ResultsLike = str | Path | Sequence[dict] | Results  # a results file, its content, or columns

RECALLS = np.linspace(0, 1, 101)
ALL, SMALL, MEDIUM, LARGE = range(4)  # areas: split at 32² and 96² pixels
AREAS = {"s": SMALL, "m": MEDIUM, "l": LARGE}


def evaluate(
    annotations: Truth,
    results: ResultsLike,
    kind: Kind = "bbox",
    engine: Engine = "hotcoco",
    max_detections: Sequence[int] = (1, 10, 100),
) -> dict[str, Any]:
    """AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl from 0 to 1, None where there is no such object;
    and `per_class`: {name: {AP, AP50, AP75, APs, APm, APl, AR100, objects}}.

    The last of `max_detections` (an image) is that of all AP and of ARs, ARm, ARl. Areas of detected masks are those
    of the masks; pycocotools alone takes those of the boxes where a results file has both.
    """
    return judge(annotations, results, kind, engine, max_detections).summary()


def curves(annotations: Truth, results: ResultsLike, kind: Kind = "bbox", engine: Engine = "hotcoco") -> dict[str, Any]:
    """{class: {"recall": [101], "precision": {"0.5": [101], "0.75": [101], "mean": [101]}}}; "mean" over the ten IoU
    thresholds. Classes without objects are left out."""
    return judge(annotations, results, kind, engine).curves()


def judge(
    annotations: Truth,
    results: ResultsLike,
    kind: Kind = "bbox",
    engine: Engine = "hotcoco",
    max_detections: Sequence[int] = (1, 10, 100),
) -> "Evaluation":
    """Matches once, for `.summary()` and `.curves()`."""
    engines = {"hotcoco": run_hotcoco, "pycocotools": run_pycocotools}
    if engine not in engines:
        raise ConfigError(f"There is no evaluation engine {engine!r}: take hotcoco or pycocotools.")
    if kind not in ("bbox", "segm"):
        raise ConfigError(f"There is nothing of kind {kind!r} to judge: take bbox or segm.")
    return Evaluation(engines[engine](annotations, results, kind, max_detections), list(max_detections))


@dataclass
class Evaluation:
    arrays: Arrays
    max_detections: list[int]

    def summary(self) -> dict[str, Any]:
        precisions, recalls = self._precisions(), self._recalls()
        last = f"AR{self.max_detections[-1]}"
        of_class = {**precisions, last: recalls[last]}
        rows = zip(*([number(value) for value in values.tolist()] for values in of_class.values()))
        return {name: mean(values) for name, values in (precisions | recalls).items()} | {
            "per_class": {
                name: dict(zip(of_class, row)) | {"objects": count}
                for name, row, count in zip(self.arrays.classes, rows, self.arrays.objects)
            }
        }

    def curves(self) -> dict[str, Any]:
        precision = self.arrays.precision[:, :, :, ALL, -1]
        rows = {"0.5": precision[0], "0.75": precision[5], "mean": precision.mean(0)}
        return {
            name: {"recall": RECALLS.tolist(), "precision": {row: rows[row][:, k].tolist() for row in rows}}
            for k, name in enumerate(self.arrays.classes)
            if precision[0, 0, k] > -1
        }

    def _precisions(self) -> dict[str, np.ndarray]:
        """For each class [K]; all precisions of a class without objects are -1, and so is their mean."""
        precision = self.arrays.precision[..., -1].mean(1)  # [T, K, A]
        figures = {"AP": precision[:, :, ALL].mean(0), "AP50": precision[0, :, ALL], "AP75": precision[5, :, ALL]}
        return figures | {f"AP{letter}": precision[:, :, area].mean(0) for letter, area in AREAS.items()}

    def _recalls(self) -> dict[str, np.ndarray]:
        """Likewise."""
        recall = self.arrays.recall.mean(0)  # [K, A, M]
        figures = {f"AR{count}": recall[:, ALL, m] for m, count in enumerate(self.max_detections)}
        return figures | {f"AR{letter}": recall[:, area, -1] for letter, area in AREAS.items()}


def mean(values: np.ndarray) -> float | None:
    """Over the classes that have objects."""
    present = values[values >= 0]
    return float(present.mean()) if present.size else None


def number(value: float) -> float | None:
    return value if value >= 0 else None


def tide(annotations: Truth, results: ResultsLike, kind: Kind = "bbox") -> dict[str, Any]:
    """What each kind of error costs (Bolya et al., "TIDE", ECCV 2020), by hotcoco.

    {"AP50", "cost": {error: AP50 that is lost by it}, "counts": {error: how many}}; Cls: wrong class, Loc: wrong place,
    Both: both, Dupe: found twice, Bkg: nothing there, Miss: not found; FP and FN: all false positives or negatives.
    """
    _, judge = hotcoco_evaluator(annotations, results, kind)
    judge.evaluate()
    errors = judge.tide_errors()
    return {"AP50": errors["ap_base"], "cost": errors["delta_ap"], "counts": errors["counts"]}
