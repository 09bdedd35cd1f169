"""Graceful stop of a run on SIGINT, SIGTERM, SIGHUP and Windows' SIGBREAK."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resdet.system import HANG_UP, STOP_SIGNALS

GRACE = 2.0  # seconds; `timeout`, torchrun and users may send several signals for one stop


class StopRequested(KeyboardInterrupt):
    """Raised by a stop signal in code that may be interrupted."""


class defer_signals:
    """Records stop signals instead of letting them interrupt a step or a checkpoint.

    `received` is the first signal, or None. Further signals within GRACE seconds belong to the same stop; a later
    SIGINT raises KeyboardInterrupt. SIGHUP stays ignored if it already is, for example under nohup.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.since = 0.0
        self.abandonable = False
        self.former: dict[int, Any] = {}

    def __enter__(self) -> "defer_signals":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python handles signals in the main thread only
        for number in STOP_SIGNALS:
            if number != HANG_UP or signal.getsignal(number) != signal.SIG_IGN:
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
        """Within this context, the first signal raises StopRequested, immediately if it has already arrived."""
        self.abandonable = True
        try:
            if self.received is not None:
                raise StopRequested
            yield
        finally:
            self.abandonable = False
