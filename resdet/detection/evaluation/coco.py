"""COCO's average precision and recall for boxes, masks (Tables 8 and 9) and keypoints."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from resdet.detection.evaluation.coco_engines import Arrays, hotcoco_evaluator, run_hotcoco, run_pycocotools
from resdet.detection.evaluation.coco_stream import run_stream
from resdet.detection.evaluation.confusion import confusion as confusion
from resdet.detection.evaluation.ground_truth import Kind, Truth
from resdet.detection.evaluation.keypoints import run_keypoints
from resdet.detection.evaluation.results import Results, ResultsLike
from resdet.errors import ConfigError

Engine = Literal["hotcoco", "pycocotools"]

RECALLS = np.linspace(0, 1, 101)
ALL, SMALL, MEDIUM, LARGE = range(4)  # area ranges, separated at 32² and 96² pixels
AREAS = {"s": SMALL, "m": MEDIUM, "l": LARGE}
KEYPOINT_AREAS = {"m": 1, "l": 2}  # COCO labels no keypoints of small objects
MAX_DETECTIONS: dict[Kind, Sequence[int]] = {"bbox": (1, 10, 100), "segm": (1, 10, 100), "keypoints": (20,)}


def evaluate(
    annotations: Truth,
    results: ResultsLike,
    kind: Kind = "bbox",
    engine: Engine = "hotcoco",
    max_detections: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Returns AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl from 0 to 1, None without such objects;
    and `per_class`: {name: {AP, AP50, AP75, APs, APm, APl, AR100, objects}}.

    `max_detections` are per image, by default 1, 10 and 100; the last one applies to all AP and to ARs, ARm, ARl. Areas
    of detected masks are those of the masks; plain pycocotools uses the box area if a results file has both.

    Keypoints are evaluated by OKS, with at most 20 detections and AR20, without APs and ARs, always with pycocotools.
    `sigmas`: the standard deviation of each keypoint, by default COCO's for its 17 and their mean for any other number.
    """
    return match(annotations, results, kind, engine, max_detections, sigmas).summary()


def curves(annotations: Truth, results: ResultsLike, kind: Kind = "bbox", engine: Engine = "hotcoco") -> dict[str, Any]:
    """Returns {class: {"recall": [101], "precision": {"0.5": [101], "0.75": [101], "mean": [101]}}} for classes with
    objects; "mean" is over the ten IoU thresholds."""
    return match(annotations, results, kind, engine).curves()


def match(
    annotations: Truth,
    results: ResultsLike,
    kind: Kind = "bbox",
    engine: Engine = "hotcoco",
    max_detections: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> "Evaluation":
    """Matches detections to objects once, for `.summary()` and `.curves()`."""
    engines = {"hotcoco": run_hotcoco, "pycocotools": run_pycocotools}
    if engine not in engines:
        raise ConfigError(f"There is no evaluation backend {engine!r}: choose hotcoco or pycocotools.")
    if kind not in MAX_DETECTIONS:
        raise ConfigError(f"Results of kind {kind!r} cannot be evaluated: choose {', '.join(MAX_DETECTIONS)}.")
    limits = list(max_detections or MAX_DETECTIONS[kind])
    if kind == "keypoints":
        return Evaluation(run_keypoints(annotations, results, limits, sigmas), limits, KEYPOINT_AREAS)
    return Evaluation(engines[engine](annotations, results, kind, limits), limits)


def match_parts(annotations: Truth, parts: Iterable[Results], kind: Kind = "bbox") -> "Evaluation":
    """As `match` with hotcoco, with one part of the boxes or masks in memory; a part has all detections of an image."""
    limits = list(MAX_DETECTIONS[kind])
    return Evaluation(run_stream(annotations, parts, kind, limits), limits)


@dataclass
class Evaluation:
    arrays: Arrays
    max_detections: list[int]
    areas: Mapping[str, int] = field(default_factory=lambda: AREAS)

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
        """Returns AP metrics per class [K]; -1 for a class without objects, whose precisions are -1."""
        precision = self.arrays.precision[..., -1].mean(1)  # [T, K, A]
        metrics = {"AP": precision[:, :, ALL].mean(0), "AP50": precision[0, :, ALL], "AP75": precision[5, :, ALL]}
        return metrics | {f"AP{letter}": precision[:, :, area].mean(0) for letter, area in self.areas.items()}

    def _recalls(self) -> dict[str, np.ndarray]:
        """Returns AR metrics per class [K]; -1 for a class without objects."""
        recall = self.arrays.recall.mean(0)  # [K, A, M]
        metrics = {f"AR{count}": recall[:, ALL, m] for m, count in enumerate(self.max_detections)}
        return metrics | {f"AR{letter}": recall[:, area, -1] for letter, area in self.areas.items()}


def mean(values: np.ndarray) -> float | None:
    """Returns the mean over classes with objects; None if there are none."""
    present = values[values >= 0]
    return float(present.mean()) if present.size else None


def number(value: float) -> float | None:
    return value if value >= 0 else None


def tide(annotations: Truth, results: ResultsLike, kind: Kind = "bbox") -> dict[str, Any]:
    """Returns the cost of each error type (Bolya et al., "TIDE", ECCV 2020), computed by hotcoco.

    {"AP50", "cost": {error: loss of AP50}, "counts": {error: number}}; Cls: wrong class, Loc: poor localization, Both:
    both, Dupe: duplicate, Bkg: background, Miss: missed object; FP and FN: all false positives or negatives.
    """
    _, evaluator = hotcoco_evaluator(annotations, results, kind)
    evaluator.evaluate()
    errors = evaluator.tide_errors()
    return {"AP50": errors["ap_base"], "cost": errors["delta_ap"], "counts": errors["counts"]}
