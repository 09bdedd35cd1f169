"""Helpers that compare an interrupted and resumed run with an uninterrupted one."""

import json
from pathlib import Path

import torch

SPEED = ("images/s", "data")


def assert_equal(first, second, place: str = "") -> None:
    """Asserts bitwise equality of nested dicts, lists and tensors."""
    assert type(first) is type(second), place
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            assert_equal(first[key], second[key], f"{place}/{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), place
        for index, (one, other) in enumerate(zip(first, second)):
            assert_equal(one, other, f"{place}/{index}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), place
    else:
        assert first == second, place


def metrics(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in SPEED} for line in lines]


def assert_same_run(whole: Path, cut: Path) -> None:
    """Asserts equal weights, training state, best checkpoint, metrics and results."""
    for name in ("last.pth", "best.pth"):
        assert_equal(*(content(folder / name) for folder in (whole, cut)), name)
    assert metrics(whole) == metrics(cut)
    assert (whole / "results.json").exists() == (cut / "results.json").exists()
    if (whole / "results.json").exists():
        assert (whole / "results.json").read_bytes() == (cut / "results.json").read_bytes()


def content(path: Path) -> dict:
    """Loads a checkpoint without the optimizer's learning rate, which each step sets again."""
    found = torch.load(path, weights_only=True)
    for group in found.get("trainer", {}).get("optimizer", {}).get("param_groups", []):
        del group["lr"]
    return found


def trainer_state(folder: Path) -> dict:
    return torch.load(folder / "last.pth", weights_only=True)["trainer"]
