"""Prediction image by image, for ensembles, tiles and localizers with classifiers."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from resdet.images.inputs import predict_all
from resdet.images.shape_groups import check_score
from resdet.model import Prepared
from resdet.results.result import Result


class ImageByImage:
    """Adds `predict` and `stream` to a class with `prepare_image` and `predict_prepared`; holds one image in memory."""

    prepare_image: Callable[[Any], Prepared]
    predict_prepared: Callable[..., list[Result]]  # (images, score) -> one result per image

    def predict(self, images: Any, score: float | None = None, stream: bool = False) -> Any:
        """Predicts one or several images, as `Detector.predict` does."""
        return predict_all(lambda inputs: self.stream(inputs, score), images, stream)

    def stream(self, images: Iterable[Any], score: float | None = None) -> Iterator[Result]:
        """Yields the results of `predict` one by one; reads images lazily."""
        check_score(score)
        for image in images:
            (result,) = self.predict_prepared([self.prepare_image(image)], score)
            result.image = image
            yield result
