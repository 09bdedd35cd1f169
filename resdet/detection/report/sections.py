"""Sections of a detector's report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resdet.detection.evaluation import coco
from resdet.detection.evaluation.evaluate import kinds_of
from resdet.detection.evaluation.ground_truth import Kind
from resdet.detection.evaluation.metrics import PREFIXES, coco_evaluations, coco_headline, headline_metrics
from resdet.detection.evaluation.protocols import COCO
from resdet.detection.inference.choice import choose
from resdet.detection.report.evaluation import EvaluatedDetector, curves_of, evaluate_detector
from resdet.detection.report.galleries import doubts_section, image_galleries
from resdet.detection.report.score_curves import choose_threshold
from resdet.engine.latency import IMAGES, PIXELS, latency_table
from resdet.results.calibration import calibrate, calibration_parts
from resdet.results.confusion import confusion_parts
from resdet.results.plot import COLORS, Line
from resdet.results.sections import Chart, Part, Section, Table, facts
from resdet.results.spread import spread
from resdet.tasks import EvaluatedRun

POINTS = 200  # points of curves against scores
TIDE = {  # TIDE's error -> meaning
    "Cls": "right place, wrong class",
    "Loc": "right class, IoU from 0.1 to 0.5",
    "Both": "wrong class and IoU from 0.1 to 0.5",
    "Dupe": "the object has a better detection",
    "Bkg": "no object there (IoU below 0.1)",
    "Miss": "object without any of these detections",
    "FP": "all false positives",
    "FN": "all missed objects",
}


def report(run: EvaluatedRun, precision: float | None) -> list[Section]:
    evaluated = evaluate_detector(run, precision)
    settings, source, results, left_out = run.experiment.eval, evaluated.source, evaluated.results, evaluated.left_out
    kinds = kinds_of(run.model)
    evaluations = coco_evaluations(settings, source, results, kinds, left_out)
    if settings.metric == COCO:
        headline = coco_headline(evaluations, source)
    else:
        headline = headline_metrics(settings, source, results, kinds, left_out)
    return [
        summary_section(evaluated, headline, evaluations),
        Section("classes", "Classes", [class_table(PREFIXES[kind], each) for kind, each in evaluations.items()]),
        scores_section(evaluated, evaluations["bbox"].curves(), precision),
        calibration_section(evaluated),
        confusion_section(evaluated),
        errors_section(evaluated),
        image_galleries(evaluated),
        doubts_section(evaluated),
        Section("data", "Validation data", [data_table(evaluated)]),
        Section("speed", "Speed", [speed_table(evaluated)]),
    ]


def summary_section(
    evaluated: EvaluatedDetector, headline: Mapping[str, float], evaluations: Mapping[Kind, coco.Evaluation]
) -> Section:
    values = {
        f"{PREFIXES[kind]}{name}": value
        for kind, each in evaluations.items()
        for name, value in each.summary().items()
        if name != "per_class"
    }
    losses = {f"loss {name}": value for name, value in evaluated.losses.items()}
    other = {name: value for name, value in headline.items() if name not in values}  # from another eval.metric
    return Section("summary", "Metrics", [facts("metrics", "All images", {**other, **values, **losses})])


def class_table(prefix: str, evaluation: coco.Evaluation) -> Table:
    classes = evaluation.summary()["per_class"]
    columns = list(next(iter(classes.values()), {}))
    rows = [(name, *values.values()) for name, values in classes.items()]
    key = f"{prefix}classes"
    title = f"AP of {prefix.rstrip('_') or 'boxe'}s by class and size"
    return Table(key, title, ("class", *columns), rows, "APs, APm, APl: objects below 32², below 96², and larger.")


def scores_section(evaluated: EvaluatedDetector, curves: dict[str, Any], precision: float | None) -> Section:
    thin = spread(len(evaluated.curves.scores), POINTS)
    x = evaluated.curves.scores[thin].tolist()
    columns = {"precision": evaluated.curves.precision, "recall": evaluated.curves.recall, "F1": evaluated.curves.f1}
    lines = [Line(name, x, values[thin].tolist(), k) for k, (name, values) in enumerate(columns.items())]
    goal = "the highest F1" if precision is None else f"the highest recall with a precision of at least {precision:g}"
    note = f"Threshold: {goal}, at IoU 0.5, all classes together; by class in the table."
    if evaluated.threshold is None:
        note += " No score reaches it."
    chosen = vars(evaluated.threshold) if evaluated.threshold else dict.fromkeys(("score", "precision", "recall", "f1"))
    parts: list[Part] = [
        facts("threshold", "Score threshold", chosen),
        precision_recall(evaluated, curves),
        Chart("against_score", "Precision, recall and F1 against the score", lines, "lowest score", "", top=1),
        threshold_table(evaluated, precision),
    ]
    return Section("scores", "Precision, recall and the score threshold", parts, note)


def precision_recall(evaluated: EvaluatedDetector, curves: dict[str, Any]) -> Chart:
    """Plots precision against recall: the mean at three IoU thresholds, and the classes with the most objects."""
    totals = dict(zip(evaluated.matches.classes, evaluated.matches.totals().tolist()))
    largest = sorted(curves, key=lambda name: -totals[name])[: len(COLORS) - 3]
    recall = coco.RECALLS.tolist()
    mean = lambda row: np.mean([curve["precision"][row] for curve in curves.values()], 0).tolist()
    named = {"0.5": "mean, IoU 0.5", "0.75": "mean, IoU 0.75", "mean": "mean, IoU 0.5 to 0.95"}
    lines = [Line(name, recall, mean(row), k) for k, (row, name) in enumerate(named.items())]
    lines += [
        Line(f"{name}, IoU 0.5", recall, curves[name]["precision"]["0.5"], k, thin=True)
        for k, name in enumerate(largest, 3)
    ]
    return Chart("precision_recall", "Precision and recall", lines, "recall", "precision", top=1)


def threshold_table(evaluated: EvaluatedDetector, precision: float | None) -> Table:
    rows: list[Sequence[Any]] = []
    for label, name in enumerate(evaluated.matches.classes):
        best = choose_threshold(curves_of(evaluated.matches, label), precision)
        rows.append((name, *(vars(best).values() if best else (None,) * 4)))
    return Table("thresholds", "Score threshold by class", ("class", "score", "precision", "recall", "F1"), rows)


def calibration_section(evaluated: EvaluatedDetector) -> Section:
    matches = evaluated.matches
    kept = ~matches.ignored[0]
    calibration = calibrate(matches.scores[kept], matches.hit[0, kept])
    note = "A detection is correct if it matches an object of its class at IoU 0.5."
    return Section("calibration", "Calibration", calibration_parts(calibration), note)


def confusion_section(evaluated: EvaluatedDetector) -> Section:
    confusion = coco.confusion(evaluated.truth, evaluated.results, score=evaluated.score)
    names = confusion["classes"]
    parts = confusion_parts([*names, "background"], [*names, "missed"], confusion["matrix"])
    note = f"{evaluated.counted}. Rows: objects; columns: detections."
    return Section("confusion", "Confusion", parts, note)


def errors_section(evaluated: EvaluatedDetector) -> Section:
    tables = [tide_table("tide", "Error types of boxes", coco.tide(evaluated.truth, evaluated.results))]
    if evaluated.has_masks:
        errors = coco.tide(evaluated.truth, evaluated.results, "segm")
        tables.append(tide_table("mask_tide", "Error types of masks", errors))
    note = (
        "As in TIDE (Bolya et al., ECCV 2020): what AP50 gains if an oracle corrects the errors of one type. All "
        "scores count."
    )
    return Section("errors", "Error types", tables, note)


def tide_table(key: str, title: str, errors: dict[str, Any]) -> Table:
    rows = [(name, meaning, errors["cost"][name], errors["counts"].get(name)) for name, meaning in TIDE.items()]
    return Table(key, f"{title}, AP50 {errors['AP50']:.3f}", ("error", "meaning", "AP50 lost", "count"), rows)


def data_table(evaluated: EvaluatedDetector) -> Table:
    source = evaluated.source
    values = {
        "images": len(source),
        "unreadable images": len(evaluated.left_out),
        "images without objects": len(source) - len(np.unique(source.presence()[0])),
        "objects": int(source.label_counts().sum()),
        "classes": len(source.classes),
        "detections": len(evaluated.results),
    }
    return facts("data", "Validation data", values)


def speed_table(evaluated: EvaluatedDetector) -> Table:
    detector = choose([evaluated.run.model], evaluated.run.experiment.eval)
    readable = [index for index in range(len(evaluated.source)) if index not in evaluated.left_out]
    images = [evaluated.source.image(readable[k]).decode() for k in spread(len(readable), IMAGES)]
    return latency_table(lambda image: [*detector.stream([image])], images, evaluated.run.model.device, PIXELS)
