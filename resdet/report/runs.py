"""Run folders as input of a report: the best checkpoint, the log and the run's metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdet import __version__, config, hub
from resdet.config.experiment import Experiment
from resdet.engine import distributed
from resdet.engine.checkpoint import BEST
from resdet.engine.metrics_file import METRICS, read_entries
from resdet.engine.run_record import CONFIG, RECORD
from resdet.errors import DataError
from resdet.files.download import digest
from resdet.files.json_file import read_json
from resdet.files.keyed_cache import digest_of
from resdet.results.sections import Cell, Section, Text, facts
from resdet.tasks import EvaluatedRun, Outputs, refuse_model_settings

CACHE = "report"  # subfolder of the run
REPORTS = (".html", ".json", ".md", ".txt")
RECORDS = (RECORD, "run_ids.json", "results.json")  # written by the training


@dataclass(frozen=True)
class Run:
    folder: Path
    name: str
    experiment: Experiment
    log: list[dict[str, Any]]  # lines of metrics.jsonl
    record: dict[str, Any]  # run.json


def read_run(folder: Path, name: str, overrides: Sequence[str]) -> Run:
    """Reads a run folder; `overrides` change the settings of the experiment, such as `data.root`."""
    if not (folder / BEST).is_file():
        raise DataError(f"{folder} holds no {BEST}: give the folder of a run of `resdet train`.")
    path = folder / CONFIG
    experiment = config.load(path, *overrides)
    refuse_model_settings(config.load(path), experiment, overrides, str(path))
    return Run(folder, name, experiment, read_entries(folder / METRICS), read_json(folder / RECORD))


def load(run: Run, outputs: Outputs) -> EvaluatedRun:
    """Loads the model of the best checkpoint on the device of the config; `outputs`: outputs of the report."""
    device = distributed.choose_device(run.experiment.train.device)
    model = hub.load(run.folder / BEST, device=device)
    return EvaluatedRun(run.name, model, run.experiment, run.folder / CACHE, key_of(run), outputs)


def inputs_of(run: Run) -> list[Path]:
    """Returns the files of a run, except those that a report may replace."""
    return [file for file in run.folder.rglob("*") if file.is_file() and not is_report(file, run)]


def is_report(file: Path, run: Run) -> bool:
    """Whether a file of a run may be a report: it is next to the checkpoints and has the suffix of a report."""
    return file.parent == run.folder and file.suffix in REPORTS and file.name not in RECORDS


def key_of(run: Run) -> str:
    """Returns a key for the checkpoint and the settings that affect its predictions."""
    settings = config.to_dict(run.experiment)
    return digest_of([digest(run.folder / BEST, "sha256"), __version__, settings["data"], settings["eval"]])


def names_of(folders: Sequence[Path]) -> list[str]:
    """Returns the names of the folders, or their paths if names are equal; numbers repeated paths."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    counts = [folders[:place].count(folder) for place, folder in enumerate(folders)]
    return [f"{folder} ({count + 1})" if count else str(folder) for folder, count in zip(folders, counts)]


def run_section(run: Run) -> Section:
    """Returns the section with versions, device, command and config."""
    values: dict[str, Cell] = {
        name: " ".join(map(str, value)) if name == "command" else value
        for name, value in run.record.items()
        if name != "packages"
    }
    values |= run.record.get("packages", {})
    text = (run.folder / CONFIG).read_text(encoding="utf-8")
    return Section("run", "Run", [facts("run", "Run", values), Text("config", "Config", text)])
