"""metrics.csv, read by Python's csv module."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from resdet.engine.log import Log
from resdet.engine.loggers.csv import CsvLogger
from resdet.engine.run import Run


def opened(folder: Path, step: int = 0, due: bool = False) -> Log:
    log = Log(folder)
    log.open(step, due)
    log.add_loggers([CsvLogger()], Run(folder, {}, None, 10, step))
    return log


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_line(tmp_path):
    log = opened(tmp_path)
    log.metrics(1, "train", {"loss": 1 / 3, "lr": 0.1})
    log.metrics(2, "train", {"loss": 0.25, "lr": 0.1})
    assert rows(tmp_path) == [
        {"step": "1", "kind": "train", "loss": "0.333333", "lr": "0.1"},
        {"step": "2", "kind": "train", "loss": "0.25", "lr": "0.1"},
    ]


def test_loggers_cannot_change_the_values(tmp_path):
    log, values, pictures = opened(tmp_path), {"loss": 0.5}, {"a": np.zeros((2, 2, 3), np.uint8)}
    log.loggers.append(
        SimpleNamespace(metrics=lambda step, kind, given: given.clear(), images=lambda step, given: given.clear())
    )
    log.metrics(1, "train", values)
    log.images(1, pictures)
    assert values == {"loss": 0.5} and [*pictures] == ["a"] and len(log.loggers) == 2


def test_a_column_that_comes_later_is_empty_before(tmp_path):
    log = opened(tmp_path)
    log.metrics(1, "train", {"loss": 0.5})
    log.metrics(1, "val", {"AP": 0.25, "a,b": 1.0})
    log.metrics(2, "train", {"loss": 0.125})
    assert rows(tmp_path) == [
        {"step": "1", "kind": "train", "loss": "0.5", "AP": "", "a,b": ""},
        {"step": "1", "kind": "val", "loss": "", "AP": "0.25", "a,b": "1.0"},
        {"step": "2", "kind": "train", "loss": "0.125", "AP": "", "a,b": ""},
    ]


def test_a_resumed_run_drops_lines_that_it_rewrites(tmp_path):
    log = opened(tmp_path)
    for step in (1, 2, 3):
        log.metrics(step, "train", {"loss": step})
        log.metrics(step, "val", {"AP": step})
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,tra")  # a killed run
    log = opened(tmp_path, 2, due=True)
    assert [(row["step"], row["kind"]) for row in rows(tmp_path)] == [("1", "train"), ("1", "val"), ("2", "train")]
    log.metrics(2, "val", {"AP": 9})
    assert rows(tmp_path)[-1] == {"step": "2", "kind": "val", "loss": "", "AP": "9.0"}


def test_a_table_without_rows_has_a_header(tmp_path):
    log = opened(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "step,kind\n"
    log.images(1, {"val/1": np.zeros((2, 2, 3), np.uint8)})
    log.close()
    assert rows(tmp_path) == []
