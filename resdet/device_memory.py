"""Handling of GPU out-of-memory errors: a message with a remedy, and prediction in smaller groups."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from torch import OutOfMemoryError

from resdet.errors import DeviceMemoryError

EVALUATION_REMEDY = "lower eval.batch, or the size of the images"

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def memory_remedy(work: str, remedy: str) -> Iterator[None]:
    """Raises a DeviceMemoryError about `work` if the GPU has no memory left."""
    try:
        yield
    except OutOfMemoryError as error:
        raise DeviceMemoryError(f"{work} does not fit into the memory of the GPU: {remedy}.") from error


def in_halves(predict: Callable[[Sequence[T]], Sequence[R]], images: Sequence[T]) -> Sequence[R]:
    """Returns `predict(images)`, or the results of each half if the GPU runs out of memory."""
    if len(images) == 1:
        with memory_remedy("One image", "use --device cpu, or a smaller size"):
            return predict(images)
    try:
        return predict(images)
    except OutOfMemoryError:
        middle = len(images) // 2
    # Outside the handler, since the traceback keeps the tensors of the failed attempt alive.
    return [*in_halves(predict, images[:middle]), *in_halves(predict, images[middle:])]
