"""Markdown tables of evaluation metrics."""

from collections.abc import Iterable, Sequence
from typing import Any

from resdet.errors import printable

STEPS = range(0, 101, 10)  # of the 101 recalls


def summary_table(metrics: dict[str, Any]) -> str:
    """One row with all metrics but those per class."""
    names = [name for name in metrics if name != "per_class"]
    return markdown(names, [[format_value(metrics[name]) for name in names]], left=0)


def per_class_table(metrics: dict[str, Any]) -> str:
    """A row per class, by ascending AP, classes without objects last."""
    classes = metrics["per_class"]
    columns = list(next(iter(classes.values()), {}))
    worst_first = sorted(classes, key=lambda name: (classes[name]["AP"] is None, classes[name]["AP"] or 0))
    return markdown(["class", *columns], ([name, *map(format_value, classes[name].values())] for name in worst_first))


def curves_table(curves: dict[str, Any]) -> str:
    """Precision at recalls 0, 0.1, … 1, for each class and IoU threshold."""
    header = ["class", "IoU", *(f"{step / 100:.1f}" for step in STEPS)]
    rows = (
        [name, threshold, *(format_value(values[step]) for step in STEPS)]
        for name, curve in curves.items()
        for threshold, values in curve["precision"].items()
    )
    return markdown(header, rows, left=2)


def confusion_table(confusion: dict[str, Any]) -> str:
    """Rows are classes of objects, columns classes of detections."""
    names = confusion["classes"]
    rows = ([name, *map(str, row)] for name, row in zip([*names, "background"], confusion["matrix"]))
    return markdown(["object \\ detection", *names, "missed"], rows)


def tide_table(errors: dict[str, Any]) -> str:
    rows = ([name, format_value(cost), str(errors["counts"].get(name, ""))] for name, cost in errors["cost"].items())
    return markdown(["error", "AP50 lost", "count"], rows)


def format_value(value: float | int | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table with the first `left` columns aligned left, the others right."""
    line = lambda cells: f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |"
    rule = "|" + "|".join("---" if column < left else "---:" for column in range(len(header))) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])
