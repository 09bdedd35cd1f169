"""ILSVRC classification submissions and validation of their format."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from resdet.data.ilsvrc_files import devkit_numbers, read_lines
from resdet.errors import DataError
from resdet.files.atomic import write_text


def write_classification(
    path: str | Path, rows: Iterable[Sequence[int]], classes: Sequence[str], devkit: Sequence[str]
) -> None:
    """Writes one line per image, in the order of the test list: five ILSVRC2012_IDs (1 to 1000), best first.

    `rows` are five class numbers per image, indices into `classes` (synsets); `devkit` lists the synsets in the
    different order of ILSVRC2012_ID.
    """
    ids = devkit_numbers(classes, devkit)
    lines = [" ".join(map(str, ids[list(row)])) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def check_classification(path: str | Path, images: int, classes: int = 1000) -> None:
    """Raises a DataError for the first line that the server would reject."""
    for row, line in enumerate(read_lines(path, images), start=1):
        fields = line.split()
        valid = len(fields) == 5 and all(field.isdigit() and 1 <= int(field) <= classes for field in fields)
        if not valid or len(set(fields)) != 5:
            raise DataError(f"{path}, line {row}: {line[:60]!r} is not five different numbers from 1 to {classes}.")
