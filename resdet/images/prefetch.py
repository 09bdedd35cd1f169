"""Images decoded and resized in threads while the net computes: OpenCV and torch release the interpreter lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

R = TypeVar("R")

MOST_THREADS = 8


def prefetched(function: Callable[[Any], R], items: Iterable[Any], ahead: int) -> Iterator[tuple[Any, R]]:
    """Yields each item and its `function(item)`, in order; up to `ahead` further items are computed meanwhile.

    An iterator, such as a generator of camera frames, is read only when its next item is asked for.
    """
    if isinstance(items, Iterator):
        for item in items:
            yield item, function(item)
        return
    executor = ThreadPoolExecutor(min(ahead, os.cpu_count() or 1, MOST_THREADS), "resdet-images")
    remaining = iter(items)
    pending: deque[tuple[Any, Future[R]]] = deque()
    submit = lambda item: pending.append((item, executor.submit(function, item)))
    try:
        for item in islice(remaining, ahead):
            submit(item)
        while pending:
            for item in islice(remaining, 1):
                submit(item)
            item, future = pending.popleft()
            yield item, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
