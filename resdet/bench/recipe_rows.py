"""Results of two recipes, one row per seed and side, in a JSON file from which a comparison can resume."""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from resdet.bench.report import circumstances
from resdet.errors import ConfigError
from resdet.files.atomic import write_json
from resdet.files.json_file import read_json

OURS, PEER = "resdet", "torchvision"
METRICS = ("AP", "AP50", "AP75")
COLUMNS = ("seed", "side", "images", "steps", "cpu_seconds", *METRICS)
Row = dict[str, Any]


class RecipeRows:
    """The rows measured so far; rewrites the file at `path`, if given, with their summary after each row.

    `setting`: the settings that all rows share. A file with the same settings is resumed; any other file is refused.
    """

    def __init__(self, path: str | None, setting: Mapping[str, Any]):
        self.path, self.setting = path, dict(setting)
        self.rows: list[Row] = kept_rows(Path(path), self.setting) if path and Path(path).is_file() else []
        self.head = circumstances()

    def find(self, seed: int, side: str) -> Row | None:
        return next((row for row in self.rows if (row["seed"], row["side"]) == (seed, side)), None)

    def add(self, seed: int, side: str, row: Mapping[str, Any]) -> Row:
        """Prints a row and writes the file."""
        self.rows.append({"seed": seed, "side": side, **{key: row[key] for key in COLUMNS[2:]}})
        print(line(self.rows[-1]), flush=True)
        write_json(self.path, self.content())
        return self.rows[-1]

    def content(self) -> dict[str, Any]:
        return {**self.head, "setting": self.setting, "rows": self.rows, "summary": summary(self.rows)}


def kept_rows(path: Path, setting: Mapping[str, Any]) -> list[Row]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("setting"), dict) or "rows" not in content:
        raise ConfigError(f"{path} is not a file of this comparison: give another file by --json.")
    before = content["setting"]
    for key in sorted({*setting, *before}, key=str):
        if setting.get(key) != before.get(key):
            raise ConfigError(
                f"{path} has the results of another comparison: {key} was {before.get(key)} and is {setting.get(key)}; "
                "give another file by --json."
            )
    return list(content["rows"])


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Averages the metrics of each side and their difference, from 0 to 1, over the seeds that both sides have.

    Adds the standard error of the mean difference for two or more seeds.
    """
    sides = {side: {row["seed"]: row for row in rows if row["side"] == side} for side in (OURS, PEER)}
    seeds = [seed for seed in sides[OURS] if seed in sides[PEER]]
    means: dict[str, Any] = {"seeds": seeds}
    if not seeds:
        return means
    values = {side: {key: [sides[side][seed][key] for seed in seeds] for key in METRICS} for side in (OURS, PEER)}
    differences = {key: [a - b for a, b in zip(values[OURS][key], values[PEER][key])] for key in METRICS}
    means |= {side: {key: mean(values[side][key]) for key in METRICS} for side in (OURS, PEER)}
    means["difference"] = {key: mean(differences[key]) for key in METRICS}
    if len(seeds) > 1:
        means["standard_error"] = {key: stdev(differences[key]) / sqrt(len(seeds)) for key in METRICS}
    return means


def table(rows: Sequence[Row]) -> str:
    heading = "".join(f"{name.replace('_', ' '):>12}" for name in COLUMNS)
    return "\n".join([heading, *map(line, rows), summary_line(summary(rows))])


def line(row: Mapping[str, Any]) -> str:
    """Formats a row of the table, with metrics in percent."""
    cells = [f"{100 * row[key]:.1f}" if key in METRICS else str(row[key]) for key in COLUMNS]
    return "".join(f"{cell:>12}" for cell in cells)


def summary_line(means: Mapping[str, Any]) -> str:
    """Formats the mean difference in percentage points."""
    if not means["seeds"]:
        return "no seed has the results of both sides"
    errors = means.get("standard_error", {})
    cells = [f"{key} {100 * means['difference'][key]:+.1f}" + error(errors.get(key)) for key in METRICS]
    count = len(means["seeds"])
    return f"{OURS} - {PEER}, mean of {count} seed{'s' * (count > 1)}: {', '.join(cells)}"


def error(value: float | None) -> str:
    return "" if value is None else f" ± {100 * value:.1f}"
