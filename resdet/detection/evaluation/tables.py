"""Markdown tables of evaluation metrics."""

from typing import Any

from resdet.results.markdown import format_value, table

STEPS = range(0, 101, 10)  # of the 101 recalls


def summary_table(metrics: dict[str, Any]) -> str:
    """Returns one row with all metrics except those per class."""
    names = [name for name in metrics if name != "per_class"]
    return table(names, [[format_value(metrics[name]) for name in names]], left=0)


def per_class_table(metrics: dict[str, Any]) -> str:
    """Returns a row per class, by ascending AP, classes without objects last."""
    classes = metrics.get("per_class", {})  # optional for registered evaluators
    columns = list(next(iter(classes.values()), {}))
    worst_first = sorted(classes, key=lambda name: (classes[name]["AP"] is None, classes[name]["AP"] or 0))
    return table(["class", *columns], ([name, *map(format_value, classes[name].values())] for name in worst_first))


def curves_table(curves: dict[str, Any]) -> str:
    """Returns the precision at recalls 0, 0.1, … 1, for each class and IoU threshold."""
    header = ["class", "IoU", *(f"{step / 100:.1f}" for step in STEPS)]
    rows = (
        [name, threshold, *(format_value(values[step]) for step in STEPS)]
        for name, curve in curves.items()
        for threshold, values in curve["precision"].items()
    )
    return table(header, rows, left=2)


def confusion_table(confusion: dict[str, Any]) -> str:
    """Returns the matrix with its thresholds: rows are classes of objects, columns classes of detections."""
    names = confusion["classes"]
    rows = ([name, *map(str, row)] for name, row in zip([*names, "background"], confusion["matrix"]))
    title = f"Detections with scores of at least {confusion['score']:g}, matched at IoU {confusion['iou']:g}:"
    return "\n".join([title, "", table(["object \\ detection", *names, "missed"], rows)])


def tide_table(errors: dict[str, Any]) -> str:
    rows = ([name, format_value(cost), str(errors["counts"].get(name, ""))] for name, cost in errors["cost"].items())
    return table(["error", "AP50 lost", "count"], rows)
