"""Child processes of a benchmark, which end with it."""

import atexit
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Process:
    """A Python child process with pipes; ends with the context or with this process."""

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
    """Context in which SIGTERM raises SystemExit, so that child processes end too; by default, they would continue."""
    former = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
