"""Maps a function over many files in threads, and shows the progress."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from resdet.progress import track

T = TypeVar("T")
R = TypeVar("R")
WORKERS = 16  # threads, mostly waiting for the disk


def map_in_threads(function: Callable[[T], R], items: Collection[T], title: str, workers: int = WORKERS) -> list[R]:
    """`function` of each item, in their order; `title` is that of the progress."""
    with ThreadPoolExecutor(workers) as pool:
        return list(track(pool.map(function, items), title, len(items)))
