"""Processes that a benchmark starts and ends, also when it is ended itself."""

import atexit
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Process:
    """A process of Python that talks over its pipes; ends with the context, or with this process."""

    def __init__(self, *words: str, **pipes: Any):
        self.process = subprocess.Popen([sys.executable, "-m", *words], text=True, **pipes)
        atexit.register(self.process.terminate)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.communicate()
        atexit.unregister(self.process.terminate)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM an exit by SystemExit, which ends the processes of this one; by default, they would go on."""
    former = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
