"""Prepares images in threads, predicts them in groups of one shape, and returns the results in input order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from resdet.device_memory import in_halves
from resdet.errors import DataError, require
from resdet.images.prefetch import prefetched
from resdet.model import Prepared

R = TypeVar("R")

UNREADABLE = "unreadable"  # the shape of an image that cannot be prepared
WINDOW = 64  # an incomplete group waits for at most this number of images, or for one whole group


class Waiting(NamedTuple):
    """A prepared image, before its group is complete."""

    number: int  # position in the input
    source: Any  # from the input
    prepared: Prepared


def stream(model: Any, images: Iterable[Any], most: int, **options: Any) -> Iterator[Any]:
    """Yields the results of a model with `prepare_image` and `predict_prepared`, each with its image; see `predicted`.

    `options`: score and top of `predict_prepared`.
    """
    require(most > 0, "batch", most, "give 1 image or more")
    check_score(options.get("score"))
    predict = partial(model.predict_prepared, **options)
    for image, _, result in predicted(model.prepare_image, predict, images, most):
        result.image = image
        yield result


def check_score(score: float | None) -> None:
    """Rejects a score threshold that no detection can reach, such as 50 for 50 %, and a negative one."""
    require(score is None or 0 <= score <= 1, "score", score, "give a threshold from 0 to 1")


def predicted(
    prepare: Callable[[Any], Prepared],
    predict: Callable[[Sequence[Prepared]], Sequence[R]],
    images: Iterable[Any],
    most: int,
) -> Iterator[tuple[Any, Prepared, R]]:
    """Yields each image, prepared, with its result, in input order and as early as possible.

    Up to `most` images of one shape are predicted together, or fewer if the GPU runs out of memory; two such groups of
    a sequence are read ahead.
    """
    following = 0
    ready: dict[int, tuple[Any, Prepared, R]] = {}
    for group in grouped(prepare, images, most):
        for waiting, result in zip(group, in_halves(predict, [waiting.prepared for waiting in group])):
            ready[waiting.number] = waiting.source, waiting.prepared, result
        while following in ready:
            yield ready.pop(following)
            following += 1


def attempted(
    prepare: Callable[[Any], Prepared],
    predict: Callable[[Sequence[Prepared]], Sequence[R]],
    images: Iterable[Any],
    most: int,
) -> Iterator[tuple[Any, Prepared, R | DataError]]:
    """Like `predicted`; the result of an image that cannot be read or decoded is its DataError."""
    return predicted(partial(_prepare_or_fail, prepare), partial(_predict_or_fail, predict), images, most)


def _prepare_or_fail(prepare: Callable[[Any], Prepared], image: Any) -> Prepared:
    try:
        return prepare(image)
    except DataError as error:
        return Prepared(UNREADABLE, error, (0, 0))


def _predict_or_fail(
    predict: Callable[[Sequence[Prepared]], Sequence[R]], images: Sequence[Prepared]
) -> list[R | DataError]:
    """Returns the result, or the error, of each image of one shape."""
    if images[0].shape == UNREADABLE:
        return [image.content for image in images]
    try:
        return list(predict(images))
    except DataError as error:
        return [error] if len(images) == 1 else [_predict_or_fail(predict, [image])[0] for image in images]


def grouped(prepare: Callable[[Any], Prepared], images: Iterable[Any], most: int) -> Iterator[list[Waiting]]:
    """Groups up to `most` prepared images of one shape, among the last WINDOW images, or `most` if that is greater."""
    window = max(WINDOW, most)
    waiting: dict[Any, list[Waiting]] = {}  # the group with the oldest image first
    for number, (source, prepared) in enumerate(prefetched(prepare, images, 2 * most)):
        group = waiting.setdefault(prepared.shape, [])
        group.append(Waiting(number, source, prepared))
        if len(group) == most:
            yield waiting.pop(prepared.shape)
        oldest = next(iter(waiting), None)
        if oldest is not None and number - waiting[oldest][0].number >= window - 1:
            yield waiting.pop(oldest)
    yield from waiting.values()
