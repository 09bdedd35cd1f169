"""Cases that go wrong on purpose, for the test of the runner itself."""

import ctypes
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.cases import Case, Trial
from resdet.errors import DataError

WAYS = ("ok", "skipped", "error", "sentence", "traceback", "hang", "memory", "hidden", "crash", "exit")


def make_case(rng: random.Random) -> Case:
    return Case({}, {"way": WAYS[rng.randrange(len(WAYS))]})


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    way = options["way"]
    if way == "skipped":
        trial.skipped = True
    elif way == "error":
        trial.attempt(refuse, "a.json is not JSON: mend it.")
    elif way == "sentence":
        trial.attempt(refuse, "x" * 1000)
    elif way == "traceback":
        raise KeyError("no such thing")
    elif way == "hang":
        while True:
            time.monotonic()
    elif way == "memory":
        held = [np.ones(1 << 26, np.uint8) for _ in range(100)]
        assert held
    elif way == "hidden":
        trial.attempt(allocate)
    elif way == "crash":
        ctypes.string_at(0)
    elif way == "exit":
        raise SystemExit(3)


def refuse(sentence: str) -> None:
    raise DataError(sentence)


def allocate() -> None:
    """A failed allocation that becomes a sentence."""
    try:
        np.zeros(1 << 45, np.uint8)
    except MemoryError:
        raise DataError("this file is damaged: fetch it again.") from None
