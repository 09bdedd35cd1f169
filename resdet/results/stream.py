"""Streamed results: printed and drawn."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from resdet.files.atomic import write_image
from resdet.results.result import Result


class Predictor(Protocol):
    """A detector, an ensemble, or an exported file."""

    def stream(self, images: Iterable[Any], score: float | None = None) -> Iterator[Result]:
        """Yields one result per image; reads images lazily."""


def show(model: Predictor, paths: Sequence[Path], score: float | None, folder: Path | None) -> Iterator[dict[str, Any]]:
    """Prints each result, draws it into `folder` unless None, and yields it in JSON types."""
    for number, result in enumerate(model.stream(paths, score), 1):
        print(result)
        if folder:
            write_drawn(result, folder, number)
        yield result.to_dict()


def write_drawn(result: Result, folder: Path, number: int) -> None:
    """Writes folder/NUMBER_NAME.jpg; images of several folders may share a name."""
    assert isinstance(result.image, (str, Path))
    write_image(folder / f"{number:04}_{Path(result.image).stem}.jpg", result.draw(scale=None))
