"""Results one after another, printed and drawn."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from resdet.files.atomic import write_image
from resdet.results.result import Result


class Predictor(Protocol):
    """A detector, an ensemble, or an exported file."""

    def stream(self, images: Iterable, score: float | None = None) -> Iterator[Result]:
        """One result an image; no more images are read than results are taken."""


def show(model: Predictor, paths: Sequence[Path], score: float | None, folder: Path | None) -> Iterator[dict[str, Any]]:
    """Prints each result, draws it into `folder`, and yields it as JSON takes it."""
    for number, result in enumerate(model.stream(paths, score), 1):
        print(result)
        if folder:
            write_drawn(result, folder, number)
        yield result.to_dict()


def write_drawn(result: Result, folder: Path, number: int) -> None:
    """As folder/NUMBER_NAME.jpg: images of several folders may share a name."""
    write_image(folder / f"{number:04}_{Path(result.image).stem}.jpg", result.draw())
