"""Decodes and resizes images in threads while the net computes: OpenCV and torch release the GIL."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from resdet.images.inputs import Inputs
from resdet.system import usable_cores

R = TypeVar("R")

MOST_THREADS = 8
END = object()


def prefetched(function: Callable[[Any], R], items: Iterable[Any], ahead: int) -> Iterator[tuple[Any, R]]:
    """Yields each item and its `function(item)`, in order, computing up to `ahead` further items in advance.

    Only sequences and `Inputs` are read ahead: other iterables, such as a camera, may overwrite their items.
    """
    if not isinstance(items, (Sequence, Inputs)):
        for item in items:
            yield item, function(item)
        return
    executor = ThreadPoolExecutor(min(ahead, usable_cores(), MOST_THREADS), "resdet-images")
    remaining = iter(items)
    pending: deque[tuple[Any, Future[R]]] = deque()

    def submit_next() -> None:
        nonlocal remaining
        try:
            item = next(remaining, END)
        except Exception as error:  # raised in its place, after the results of earlier items
            item, remaining = None, iter(())
            future: Future[R] = Future()
            future.set_exception(error)
        else:
            if item is END:
                return
            future = executor.submit(function, item)
        pending.append((item, future))

    try:
        for _ in range(ahead):
            submit_next()
        while pending:
            submit_next()
            item, future = pending.popleft()
            yield item, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
