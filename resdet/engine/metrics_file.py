"""metrics.jsonl: one line for each logged step and each evaluation of a run."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resdet.errors import DataError
from resdet.files.atomic import append_bytes, write_text

METRICS = "metrics.jsonl"


def entry_of(step: int, kind: str, values: Mapping[str, float]) -> dict[str, Any]:
    """Returns the content of a line, without NaN and infinity, which JSON does not support; `kind` is train or val."""
    finite = {key: float(f"{value:.6g}") for key, value in values.items() if math.isfinite(value)}
    return {"step": step, "kind": kind, **finite}


def append(path: Path, step: int, kind: str, values: Mapping[str, float]) -> None:
    append_bytes(path, (json.dumps(entry_of(step, kind, values)) + "\n").encode())


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Reads the entries of all undamaged lines; a killed run or a full disk can damage a line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the folder of a run with its log.") from error
    return [entry for entry in map(parse_line, lines) if entry is not None]


def keep_until(path: Path, step: int, evaluation_due: bool) -> int:
    """Drops the lines that a run resumed at `step` writes again: those of later steps, and of a pending evaluation at
    this step. Also drops lines damaged by a killed run or a full disk; returns their number."""
    if not path.exists():
        return 0
    kept, lost = [], 0
    for line in path.read_bytes().splitlines():
        entry = parse_line(line)
        if entry is None:
            lost += 1
        elif entry["step"] < step or (entry["step"] == step and not (evaluation_due and entry["kind"] == "val")):
            kept.append(f"{line.decode()}\n")
    write_text(path, "".join(kept))
    return lost


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Parses a line; None for a damaged one."""
    try:
        entry = json.loads(line.decode())
        return entry if entry["step"] >= 0 and entry["kind"] else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
