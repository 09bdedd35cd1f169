"""Images prepared in threads, predicted in groups of one shape, and returned in their order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from resdet.images.prefetch import prefetched
from resdet.model import Prepared

R = TypeVar("R")

WINDOW = 64  # an incomplete group waits for at most this number of images


class Waiting(NamedTuple):
    """A prepared image, before its group is complete."""

    number: int  # position in the input
    source: Any  # from the input
    prepared: Prepared


def predicted(
    prepare: Callable[[Any], Prepared],
    predict: Callable[[Sequence[Prepared]], Sequence[R]],
    images: Iterable[Any],
    most: int,
) -> Iterator[tuple[Any, Prepared, R]]:
    """Yields each image, prepared, with its result, in the order of the images and as early as possible.

    Up to `most` images of one shape are predicted together; of a sequence, two such groups are read ahead.
    """
    following = 0
    ready: dict[int, tuple[Any, Prepared, R]] = {}
    for group in grouped(prepare, images, most):
        for waiting, result in zip(group, predict([waiting.prepared for waiting in group])):
            ready[waiting.number] = waiting.source, waiting.prepared, result
        while following in ready:
            yield ready.pop(following)
            following += 1


def grouped(prepare: Callable[[Any], Prepared], images: Iterable[Any], most: int) -> Iterator[list[Waiting]]:
    """Groups of up to `most` prepared images of one shape, out of WINDOW consecutive ones."""
    waiting: dict[Any, list[Waiting]] = {}  # the group with the oldest image first
    for number, (source, prepared) in enumerate(prefetched(prepare, images, 2 * most)):
        group = waiting.setdefault(prepared.shape, [])
        group.append(Waiting(number, source, prepared))
        if len(group) == most:
            yield waiting.pop(prepared.shape)
        oldest = next(iter(waiting), None)
        if oldest is not None and number - waiting[oldest][0].number >= WINDOW - 1:
            yield waiting.pop(oldest)
    yield from waiting.values()
