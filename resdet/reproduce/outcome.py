"""Measured metrics next to the paper's: one JSON file per row, in the format of results/, and printed tables."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from resdet.config.files import PACKAGE
from resdet.files.atomic import write_json
from resdet.reproduce.plan import Evaluation, Setting, command, cost_of
from resdet.reproduce.records import BILLIONS, METRICS, Row
from resdet.reproduce.trainings import TRAININGS
from resdet.results import markdown

RESULTS = (Path("results"), PACKAGE.parent / "results")  # in the current folder and in the checkout
LISTED = {"row", "ours", "date", "command", "hardware"}  # keys of an outcome that `resdet reproduce --list` prints


def metrics_in(content: Any) -> dict[str, float]:
    """Returns {name in METRICS: value in percent or 10⁹} from the JSON output of `resdet evaluate` or `resdet nets`."""
    if isinstance(content, list):  # from `resdet nets`; the paper's variant comes first
        content = content[0]
    masks = {f"mask_{name}": value for name, value in content.get("segm", {}).items()}
    flat = {**content, **content.get("bbox", {}), **masks}
    known = [name for name in METRICS if isinstance(flat.get(name), (int, float))]
    return {name: round(flat[name] * (1e-9 if name in BILLIONS else 100), 2) for name in known}


def outcome_file(row: Row, setting: Setting) -> Path:
    return setting.out / row.table / f"{row.name}.json"


def write_circumstances(test: Evaluation) -> None:
    """Records date, hardware, versions and git revision of an evaluation that has just finished."""
    from resdet.engine.run_record import git_revision, processor, versions

    content = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(processor()),
        "versions": versions(),
        "git": git_revision(),
    }
    write_json(test.circumstances, content)


def write_outcome(row: Row, setting: Setting, test: Evaluation, commands: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Writes and returns the outcome of a row: its metrics, the paper's, and the commands to reproduce it."""
    metrics = metrics_in(json.loads(test.file.read_text(encoding="utf-8")))
    measured = {name: metrics[name] for name in (row.paper or metrics)}
    content = {
        "row": row.key,
        "system": row.system,
        **json.loads(test.circumstances.read_text(encoding="utf-8")),
        "data": describe_data(row, setting),
        **({"scale": str(setting.scale)} if scaled(row, setting) else {}),
        "command": command(reproduce_words(row, setting)),
        "steps": [command(words) for words in commands],  # the commands that `command` runs
        "paper": row.paper,
        "ours": measured,
        "difference": differences(row, measured, setting),
    }
    write_json(outcome_file(row, setting), content)
    return content


def reproduce_words(row: Row, setting: Setting) -> list[str]:
    words = ["reproduce", row.table, "--row", row.name, *setting.extra]
    if scaled(row, setting):
        words += ["--scale", str(setting.scale)]
    if setting.given:
        words += ["--use", *(f"{name}={file}" for name, file in setting.given.items())]
    return words


def scaled(row: Row, setting: Setting) -> bool:
    """Whether the row's trainings are shortened or extended by `setting.scale`."""
    return setting.scale != 1 and not row.counted


def differences(row: Row, measured: dict[str, float], setting: Setting) -> dict[str, float]:
    """Returns measured minus paper metrics; empty if the paper's are for other images or other training lengths."""
    if row.server or scaled(row, setting) or (setting.small and not row.counted):
        return {}
    return {name: round(measured[name] - number, 2) for name, number in row.paper.items()}


def describe_data(row: Row, setting: Setting) -> str:
    if row.counted:
        return "none"
    if setting.small:
        return "generated, in miniature: no result"
    if scaled(row, setting):
        return f"the paper's, with {setting.scale} of its training lengths: not comparable"
    if row.server:
        images = "validation images" if row.unseen else "training images"
        return f"{images}; the paper's metrics are from {row.server}"
    return "the paper's"


def hardware(cpu: str) -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else cpu


def measured(folders: Iterable[Path] = RESULTS) -> dict[str, dict[str, Any]]:
    """Returns {row: latest result} from the outcomes in results/ with the paper's training lengths."""
    latest: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for entry in chain.from_iterable(map(results_of_rows, sorted(folder.glob("*.json")))):
            if entry["date"] >= latest.get(entry["row"], entry)["date"]:
                latest[entry["row"]] = entry
    return latest


def results_of_rows(path: Path) -> list[dict[str, Any]]:
    """Reads the outcomes in a results file; returns none for files of other programs, which `results` may contain."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    entries = content if isinstance(content, list) else [content]
    return [entry for entry in entries if isinstance(entry, dict) and entry.keys() >= LISTED and "scale" not in entry]


def format_metrics(metrics: dict[str, float]) -> str:
    return ", ".join(f"{METRICS[name]} {number:g}" for name, number in metrics.items()) or "none"


def describe_rows(rows: Sequence[Row], setting: Setting) -> list[dict[str, Any]]:
    """Returns the rows with their metrics, cost and requirements."""
    results = measured()
    return [
        {
            "row": row.key,
            "system": row.system,
            "paper": row.paper,
            "ours": results.get(row.key),
            "cost": cost_of_row(row),
            "needs": needs_of(row, setting),
        }
        for row in rows
    ]


def rows_table(rows: Sequence[dict[str, Any]]) -> str:
    """Formats the rows as a Markdown table."""
    header = ("row", "system", "paper", "ours", "cost", "needs")
    cells = []
    for row in rows:
        metrics = [format_metrics(row["paper"]), ours_cell(row["ours"])]
        cells.append([row["row"], row["system"], *metrics, row["cost"], ", ".join(row["needs"]) or "nothing"])
    return markdown.table(header, cells, left=len(header))


def ours_cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "not measured"
    return f"{format_metrics(entry['ours'])} ({entry['date']}, `{entry['command']}`, {entry['hardware']})"


def cost_of_row(row: Row) -> str:
    if row.counted:
        return "seconds"
    configs = [TRAININGS[name].config for name in row.nets] + ([row.test_config] if row.test_config else [])
    costs = Counter(map(cost_of, configs))
    return "; ".join(f"{count} times {cost}" if count > 1 else cost for cost, count in costs.items())


def needs_of(row: Row, setting: Setting) -> list[str]:
    """Returns the data set, the trainings that must run first, and the test server, if any."""
    if row.counted:
        return []
    training = TRAININGS[row.nets[0]]
    needs = [setting.experiment(training).data.name]
    needs += [name for net in row.nets for name in TRAININGS[net].before]
    return [*dict.fromkeys([*needs, *row.classifiers, *([row.server] if row.server else [])])]


def compare(outcomes: Sequence[dict[str, Any]]) -> str:
    """Formats measured and paper metrics as a Markdown table, one metric per line."""
    header = ("row", "system", "metric", "paper", "ours", "difference", "data")
    rows = []
    for entry in outcomes:
        for name, number in entry["ours"].items():
            paper, difference = entry["paper"].get(name), entry["difference"].get(name)
            reported = "none" if paper is None else f"{paper:g}"
            cells = [f"{number:.2f}", "" if difference is None else f"{difference:+.2f}", entry["data"]]
            rows.append([entry["row"], entry["system"], METRICS[name], reported, *cells])
    return markdown.table(header, rows, left=len(header))
