"""Stop a run in good order on SIGINT, SIGTERM and SIGHUP."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 2.0  # seconds; `timeout` and torchrun send a process several signals for one stop, and so do impatient fingers


class StopRequested(KeyboardInterrupt):
    """A stop signal arrived where work may be abandoned at any moment."""


class defer_signals:
    """Notes stop signals instead of obeying them, since they would tear a step or a checkpoint apart.

    `received` is the first one, or None. More signals within GRACE seconds mean the same stop. A SIGINT after that
    raises KeyboardInterrupt. SIGHUP stays ignored where it is already, as under nohup.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.since = 0.0
        self.abandonable = False
        self.former: dict[int, Any] = {}

    def __enter__(self) -> "defer_signals":
        for number in STOPPING:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self.former[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: Any) -> None:
        if self.received is None:
            self.received, self.since = number, time.monotonic()
            if self.abandonable:
                raise StopRequested
        elif number == signal.SIGINT and time.monotonic() - self.since > GRACE:
            raise KeyboardInterrupt

    @contextmanager
    def abandon(self) -> Iterator[None]:
        """Raises StopRequested at the first signal, or at once where it has already come."""
        self.abandonable = True
        try:
            if self.received is not None:
                raise StopRequested
            yield
        finally:
            self.abandonable = False
