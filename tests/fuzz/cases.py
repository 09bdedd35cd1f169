"""A case: the files and options that a seed makes of a kind of input, and what became of feeding them to resdet."""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdet.errors import Error

KINDS = ("annotations", "formats", "images", "checkpoints", "results", "configs")
LONGEST = 400  # characters of an error's sentence


@dataclass
class Case:
    """Files by their path below the folder of the case, and options of `run_case`."""

    files: dict[str, bytes]
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Broken(Exception):
    """A promise that was broken without any exception: two engines that disagree, NaN weights that were loaded."""


class Trial:
    """What happens to a case: the errors that resdet raised on purpose, and whether something was left out."""

    def __init__(self) -> None:
        self.errors: list[Error] = []
        self.skipped = False

    def attempt(self, function: Callable, *arguments: Any, **options: Any) -> Any:
        """The function's result, or None where it refuses with a resdet.Error. Anything else passes through."""
        try:
            return function(*arguments, **options)
        except Error as error:
            self.errors.append(error)
            return None


def module_of(kind: str) -> Any:
    return importlib.import_module(f"fuzz.{kind}")


def make_case(kind: str, seed: int) -> Case:
    """The same case for the same kind and seed, in any process."""
    return module_of(kind).make_case(random.Random(f"{kind} {seed}"))


def run_case(kind: str, case: Case, folder: Path) -> Trial:
    """Writes the files and calls the public functions that read them, as the commands do."""
    trial = Trial()
    case.write(folder)
    module_of(kind).run_case(folder, case.options, trial)
    return trial


def flaw_of(error: Error) -> str | None:
    """Why an error is no good sentence."""
    sentence = str(error)
    if not sentence.strip():
        return "empty"
    if any(ord(character) < 32 for character in sentence) or len(sentence.splitlines()) > 1:
        return "several lines, or control characters"
    return f"{len(sentence)} characters" if len(sentence) > LONGEST else None
