"""Repeats requests after transient failures."""

import time
from collections.abc import Callable
from typing import TypeVar

PAUSES = (1.0, 3.0, 9.0)  # seconds before each retry
T = TypeVar("T")


def retry(request: Callable[[], T], is_transient: Callable[[Exception], bool]) -> T:
    """Returns the result of `request`; repeats it after transient errors."""
    for pause in PAUSES:
        try:
            return request()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(pause)
    return request()
