"""Out-of-memory errors of a GPU: a sentence with a remedy, and prediction of smaller groups."""

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
    """`predict(images)`, or, if the GPU has no memory for all of them, the results of each half."""
    if len(images) == 1:
        with memory_remedy("One image", "use --device cpu, or a smaller size"):
            return predict(images)
    try:
        return predict(images)
    except OutOfMemoryError:
        middle = len(images) // 2
    # Not in the handler, whose traceback holds the tensors of the failed attempt.
    return [*in_halves(predict, images[:middle]), *in_halves(predict, images[middle:])]
