"""Maps a function over many files in threads, with a progress display."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from resdet.progress import track

T = TypeVar("T")
R = TypeVar("R")
WORKERS = 16  # threads, which mostly wait for the disk


def map_in_threads(function: Callable[[T], R], items: Collection[T], title: str, workers: int = WORKERS) -> list[R]:
    """Returns `function` of each item, in order; `title` names the progress display."""
    with ThreadPoolExecutor(workers) as pool:
        return list(track(pool.map(function, items), title, len(items)))
