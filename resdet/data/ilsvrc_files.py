"""Shared code of ILSVRC submissions: one line of text per image, classes as ILSVRC2012_IDs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.errors import DataError


def read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the submission ({error}); name a text file.") from error


def read_lines(path: str | Path, images: int) -> list[str]:
    lines = read_text(path).splitlines()
    if len(lines) != images:
        raise DataError(f"{path} has {len(lines)} lines for {images} images: write one line per image.")
    return lines


def devkit_numbers(classes: Sequence[str], devkit: Sequence[str]) -> np.ndarray:
    """Returns the ILSVRC2012_ID of each class (a synset); `devkit` lists the synsets in the order of these ids."""
    number = {synset: position for position, synset in enumerate(devkit, start=1)}
    unknown = [synset for synset in classes if synset not in number]
    if unknown:
        raise DataError(
            f"The devkit's meta.mat has no synset {unknown[0]}: use a model with the devkit's classes for a submission."
        )
    return np.array([number[synset] for synset in classes])
