"""Charts of the log of one run, or of several runs overlaid."""

import math
from collections.abc import Iterable, Sequence

from resdet.report.runs import Run
from resdet.results.plot import Line
from resdet.results.sections import Chart, Section
from resdet.results.spread import spread

POINTS = 400  # maximum number of points per line


def curves_section(runs: Sequence[Run]) -> Section:
    charts = run_charts(runs[0]) if len(runs) == 1 else [shared_chart(runs, *each) for each in shared_keys(runs)]
    return Section("curves", "Curves", charts)


def run_charts(run: Run) -> list[Chart]:
    """Returns a chart per training metric, together with its validation, then one per family of other metrics."""
    trained, validated = keys(run, "train"), keys(run, "val")
    charts = [
        Chart(key, key, [*lines(run, "train", [key], thin=True), *lines(run, "val", [key])], "step", "")
        for key in trained
    ]
    rest = [key for key in validated if key not in trained]
    families = dict.fromkeys(map(family, rest))
    for name in families:
        members = [key for key in rest if family(key) == name]
        title = members[0] if len(members) == 1 else f"{name.replace('_', ' ')}metrics"
        charts.append(Chart(title, title, lines(run, "val", members), "step", ""))
    return charts


def family(key: str) -> str:
    """Returns the prefix of a metric, such as `mask_` of `mask_AP50`; the total loss is a separate family."""
    head, mark, _ = key.rpartition("_")
    return key if key == "loss" else head + mark


def lines(run: Run, kind: str, names: Iterable[str], thin: bool = False) -> list[Line]:
    """Returns a line for each name with values; lines that differ only in their kind are named after it."""
    names = list(names)
    result = []
    for number, name in enumerate(names):
        x, y = series(run, kind, name)
        if len(x):
            label = {"train": "training", "val": "validation"}[kind] if len(names) == 1 else name
            result.append(Line(label, x, y, number, thin))
    return result


def shared_keys(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Returns the (kind, key) pairs that any of the runs logs, validation first."""
    return [
        (kind, key) for kind in ("val", "train") for key in dict.fromkeys(k for run in runs for k in keys(run, kind))
    ]


def shared_chart(runs: Sequence[Run], kind: str, key: str) -> Chart:
    drawn = []
    for number, run in enumerate(runs):
        x, y = series(run, kind, key)
        if len(x):
            drawn.append(Line(run.name, x, y, number))
    title = f"{key}, {'validation' if kind == 'val' else 'training'}"
    return Chart(f"{kind}_{key}", title, drawn, "step", "")


def keys(run: Run, kind: str) -> list[str]:
    names = dict.fromkeys(name for entry in run.log if entry["kind"] == kind for name in entry)
    return [name for name in names if name not in ("step", "kind")]


def series(run: Run, kind: str, key: str) -> tuple[list[float], list[float]]:
    """Returns steps and finite values, at most POINTS of them."""
    points = [
        (entry["step"], entry[key])
        for entry in run.log
        if entry["kind"] == kind and math.isfinite(entry.get(key, math.nan))
    ]
    chosen = [points[k] for k in spread(len(points), POINTS)]
    return [step for step, _ in chosen], [value for _, value in chosen]
