"""Validation data of a run, with detections and their matches."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from resdet.data.loader import Notes
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation.command import check_annotations
from resdet.detection.evaluation.evaluate import detect
from resdet.detection.evaluation.metrics import truth_of
from resdet.detection.evaluation.results import Results
from resdet.detection.report.matches import Matches
from resdet.detection.report.score_curves import ScoreCurves, Threshold, choose_threshold, score_curves
from resdet.engine.distributed import World
from resdet.errors import DataError
from resdet.files.atomic import check_not_inputs
from resdet.files.keyed_cache import digest_of
from resdet.tasks import EvaluatedRun


@dataclass
class EvaluatedDetector:
    run: EvaluatedRun
    source: Annotations
    results: Results
    losses: dict[str, float]
    left_out: list[int]  # indices of unreadable images
    truth: str | Path | dict[str, Any]
    matches: Matches
    curves: ScoreCurves  # over all classes at IoU 0.5
    threshold: Threshold | None

    @property
    def score(self) -> float:
        """The score threshold; above all scores if there is none."""
        return self.threshold.score if self.threshold else np.inf

    @property
    def has_masks(self) -> bool:
        """Whether both the objects and the detections have masks."""
        return self.results.masks is not None and self.source.has_masks

    @property
    def counted(self) -> str:
        """Beginning of a sentence: the detections that count."""
        if self.threshold is None:
            return "No detections, since there is no score threshold"
        return f"Detections with a score of at least {self.score:.3f}, at IoU 0.5"

    @cached_property
    def indices(self) -> dict[int, int]:
        """Image id in results -> index in the source."""
        return {self.source.result_id(index): index for index in range(len(self.source))}


def evaluate_detector(run: EvaluatedRun, precision: float | None) -> EvaluatedDetector:
    """Detects objects in the validation images, unless cached, and matches the detections."""
    experiment = cast(DetectionExperiment, run.experiment)
    source = open_scenes(experiment.scenes, "val")
    check_not_inputs(run.outputs, [source.file] if source.file else [])
    check_annotations([run.model], source)

    def compute() -> dict[str, Any]:
        world = World(0, 1, run.model.device)
        output = detect([run.model], source, experiment, world, Notes(print))
        return {"results": output.results.to_list(), "losses": output.losses, "left_out": output.left_out}

    content = run.predictions(compute, state_of(source))
    if len(content["left_out"]) == len(source):
        raise DataError(f"Cannot read any of the {len(source)} validation images of {run.name}: check data.root.")
    results = Results.from_list(content["results"], f"the detections of {run.name}")
    truth = truth_of(source, content["left_out"])
    matches = Matches.of(truth, results)
    curves = curves_of(matches)
    threshold = choose_threshold(curves, precision)
    return EvaluatedDetector(
        run, source, results, content["losses"], content["left_out"], truth, matches, curves, threshold
    )


def state_of(source: Annotations) -> str:
    """Identifies the images and categories, to which detections refer by id."""
    ids = [source.result_id(index) for index in range(len(source))]
    return digest_of([list(source.files), ids, list(map(int, source.category_ids)), source.classes])


def curves_of(matches: Matches, label: int | None = None) -> ScoreCurves:
    """Computes precision, recall and F1 at IoU 0.5, for a class or all detections together."""
    chosen = ~matches.ignored[0] & ((label is None) | (matches.labels == label))
    totals = matches.totals()
    total = int(totals.sum() if label is None else totals[label])
    return score_curves(matches.scores[chosen], matches.hit[0, chosen], total)
