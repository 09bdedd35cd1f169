"""Restricts detections to some classes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from resdet.data.class_names import known_class
from resdet.detection.inference.predictor import BranchPredictor
from resdet.errors import ConfigError
from resdet.model import Prepared
from resdet.results.result import Result


class ClassFilter:
    """A predictor that keeps only detections of the named classes."""

    def __init__(self, predictor: BranchPredictor, names: Sequence[str]):
        self.predictor, self.names = predictor, names

    def prepare_image(self, image: Any) -> Prepared:
        return self.predictor.prepare_image(image)

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Result]:
        return [result.of_classes(*self.names) for result in self.predictor.predict_prepared(images, score, top)]

    def stream(self, images: Iterable[Any], score: float | None = None) -> Iterator[Result]:
        for result in self.predictor.stream(images, score):
            yield result.of_classes(*self.names)


def check_class_names(names: Sequence[str], known: Sequence[str], path: str) -> None:
    """Rejects names that are not classes of the detector at `path`."""
    for name in names:
        if name not in known:
            raise ConfigError(f"{path} has no class {name!r}: {known_class(name, known)}")
