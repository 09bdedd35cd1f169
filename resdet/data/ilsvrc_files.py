"""What ILSVRC's submissions have in common: lines of text, an image each, and classes by their ILSVRC2012_ID."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.errors import DataError


def read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a submission ({error}): name a text file.") from error


def read_lines(path: str | Path, images: int) -> list[str]:
    lines = read_text(path).splitlines()
    if len(lines) != images:
        raise DataError(f"{path} has {len(lines)} lines for {images} images: write one line an image.")
    return lines


def devkit_numbers(classes: Sequence[str], devkit: Sequence[str]) -> np.ndarray:
    """The ILSVRC2012_ID of each of the classes (synsets); `devkit` are the synsets in the order of these ids."""
    number = {synset: position for position, synset in enumerate(devkit, start=1)}
    unknown = [synset for synset in classes if synset not in number]
    if unknown:
        raise DataError(
            f"The devkit's meta.mat has no synset {unknown[0]}: a submission needs a model of its own classes."
        )
    return np.array([number[synset] for synset in classes])
