"""Prediction of one image at a time, for ensembles, tiles and localizers with classifiers."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from resdet.images.inputs import predict_all
from resdet.model import Prepared
from resdet.results.result import Result


class ImageByImage:
    """`predict` and `stream` of a class with `prepare_image` and `predict_prepared`; one image is in memory."""

    prepare_image: Callable[[Any], Prepared]
    predict_prepared: Callable[..., list[Result]]  # (images, score) -> one result per image

    def predict(self, images: Any, score: float | None = None, stream: bool = False) -> Any:
        """Results of one image or of several, as `Detector.predict`."""
        return predict_all(lambda inputs: self.stream(inputs, score), images, stream)

    def stream(self, images: Iterable[Any], score: float | None = None) -> Iterator[Result]:
        """Yields the results of `predict` one by one, and reads images lazily."""
        for image in images:
            (result,) = self.predict_prepared([self.prepare_image(image)], score)
            result.image = image
            yield result
