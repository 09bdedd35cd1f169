"""A fuzz case, made from a kind and a seed, and the trial that records its errors."""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdet.errors import Error

KINDS = ("annotations", "formats", "images", "checkpoints", "results", "configs")
LONGEST = 400  # characters of an error's text


@dataclass
class Case:
    """The files of a case, by path relative to the folder of the case, and the options of `run_case`."""

    files: dict[str, bytes]
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Broken(Exception):
    """A violated guarantee that raised no exception, such as two engines that disagree or accepted NaN weights."""


class Trial:
    """The result of a case: the resdet errors that were raised, and whether data was skipped."""

    def __init__(self) -> None:
        self.errors: list[Error] = []
        self.skipped = False

    def attempt(self, function: Callable, *arguments: Any, **options: Any) -> Any:
        """Returns the function's result, or None if it raises a resdet.Error; other exceptions propagate."""
        try:
            return function(*arguments, **options)
        except Error as error:
            self.errors.append(error)
            return None


def module_of(kind: str) -> Any:
    return importlib.import_module(f"fuzz.{kind}")


def make_case(kind: str, seed: int) -> Case:
    """Makes the case, which depends on the kind and the seed only."""
    return module_of(kind).make_case(random.Random(f"{kind} {seed}"))


def run_case(kind: str, case: Case, folder: Path) -> Trial:
    """Writes the files and calls the public functions that read them, as the commands do."""
    trial = Trial()
    case.write(folder)
    module_of(kind).run_case(folder, case.options, trial)
    return trial


def flaw_of(error: Error) -> str | None:
    """Returns what is wrong with the text of an error, or None."""
    sentence = str(error)
    if not sentence.strip():
        return "empty"
    if any(ord(character) < 32 for character in sentence) or len(sentence.splitlines()) > 1:
        return "several lines, or control characters"
    return f"{len(sentence)} characters" if len(sentence) > LONGEST else None
