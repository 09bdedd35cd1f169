"""Checks which lines of metrics.jsonl a resumed run keeps."""

import json

import pytest

from resdet.engine.metrics_file import append, keep_until, read_entries

LINES = [(0, "train"), (10, "train"), (10, "val"), (20, "train"), (20, "val")]


@pytest.fixture
def path(tmp_path):
    for step, kind in LINES:
        append(tmp_path / "metrics.jsonl", step, kind, {"loss": 1 / 3})
    return tmp_path / "metrics.jsonl"


@pytest.mark.parametrize(
    "step, due, kept", [(10, True, 2), (10, False, 3), (15, True, 3), (20, False, 5), (0, False, 1)]
)
def test_lines_that_a_resumed_run_rewrites_are_dropped(path, step, due, kept):
    before = path.read_bytes().splitlines(keepends=True)
    assert keep_until(path, step, due) == 0
    assert path.read_bytes().splitlines(keepends=True) == before[:kept]
    assert [(entry["step"], entry["kind"]) for entry in read_entries(path)] == LINES[:kept]


@pytest.mark.parametrize(
    "damage", ['{"step": 11, "ki', "[1]", '{"step": -1, "kind": "val"}', '{"step": 1}', 9999 * "["]
)
def test_damaged_lines_are_dropped_and_counted(path, damage):
    before = path.read_bytes()
    path.write_bytes(before + f"{damage}\n{damage}\n".encode() + b"\xff\n")
    assert len(read_entries(path)) == len(LINES)
    assert keep_until(path, 99, False) == 3 and path.read_bytes() == before


def test_values_have_six_digits(path):
    assert json.loads(path.read_text().splitlines()[0]) == {"step": 0, "kind": "train", "loss": 0.333333}


def test_a_run_without_metrics_drops_nothing(tmp_path):
    assert keep_until(tmp_path / "metrics.jsonl", 0, False) == 0 and not (tmp_path / "metrics.jsonl").exists()
