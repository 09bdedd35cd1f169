"""The `resdet` command as all that a process does: no Ctrl-C, however many come, ends in a traceback."""

import os
import signal
from collections.abc import Sequence
from typing import Any

from resdet import cli

INTERRUPTED = 128 + signal.SIGINT


def main(words: Sequence[str] | None = None) -> int:
    """The exit status of `resdet WORDS`, by default of the process's own words."""
    signal.signal(signal.SIGINT, interrupt_once)
    try:
        status = cli.main(words)
    except KeyboardInterrupt:  # of a second Ctrl-C, while the first is answered
        status = INTERRUPTED
    signal.signal(signal.SIGINT, leave_at_once)
    return status


def interrupt_once(number: int, frame: Any) -> None:
    """The first Ctrl-C raises KeyboardInterrupt; the second ends the process, which goes down already."""
    signal.signal(signal.SIGINT, leave_at_once)
    raise KeyboardInterrupt


def leave_at_once(number: int, frame: Any) -> None:
    """Without cleaning up, where nobody would catch an exception."""
    os._exit(INTERRUPTED)
