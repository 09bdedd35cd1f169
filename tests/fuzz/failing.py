"""Cases that fail on purpose, for the test of the runner."""

import ctypes
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.cases import Case, Trial

from resdet.errors import DataError, require

WAYS = (
    *("ok", "skipped", "error", "sentence", "lines", "traceback", "inner", "hang", "asleep", "memory", "hidden"),
    *("crash", "exit"),
)
BLOCK = 1 << 26  # bytes


def make_case(rng: random.Random) -> Case:
    return Case({}, {"way": rng.choice(WAYS)})


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    way = options["way"]
    if way == "skipped":
        trial.skipped = True
    elif way == "error":
        trial.attempt(refuse, "a.json is not JSON: mend it.")
    elif way == "sentence":
        trial.attempt(refuse, "x" * 1000)
    elif way == "lines":
        trial.attempt(refuse, "a.json is not JSON\nat all: mend it.")
    elif way == "traceback":
        raise KeyError("no such thing")
    elif way == "inner":
        trial.attempt(require, False, "a key", Unspeakable(), "mend it")
    elif way == "hang":
        while True:
            pass
    elif way == "asleep":
        time.sleep(3600)
    elif way == "memory":
        held = []
        while len(held) * BLOCK < 3 << 30:
            held.append(np.ones(BLOCK, np.uint8))
    elif way == "hidden":
        trial.attempt(allocate)
    elif way == "crash":
        ctypes.string_at(0)
    elif way == "exit":
        raise SystemExit(3)


class Unspeakable:
    """An object whose repr() raises an error inside the tested code."""

    def __repr__(self) -> str:
        raise TypeError("no name")


class Verbatim(DataError):
    """An error whose text is not limited to one short line."""

    def __str__(self) -> str:
        return str(self.args[0])


def refuse(sentence: str) -> None:
    raise Verbatim(sentence)


def allocate() -> None:
    """Raises a DataError for a failed allocation."""
    try:
        np.zeros(1 << 45, np.uint8)
    except MemoryError:
        raise DataError("this file is damaged: fetch it again.") from None
