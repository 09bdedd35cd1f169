"""The `resdet` command as a process: no traceback for Ctrl-C or for text that the output encoding lacks."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from resdet import cli
from resdet.system import INTERRUPTED


def main(words: Sequence[str] | None = None) -> int:
    """Runs `resdet WORDS`, by default sys.argv[1:]; returns the exit status."""
    signal.signal(signal.SIGINT, interrupt_once)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # resdet reports images that cannot be decoded itself
    accept_all_text()
    try:
        status = cli.main(words)
    except KeyboardInterrupt:  # a second Ctrl-C during the handling of the first
        status = INTERRUPTED
    signal.signal(signal.SIGINT, leave_at_once)
    return status


def accept_all_text() -> None:
    """Makes stdout escape characters that its encoding lacks, as on Windows, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def interrupt_once(number: int, frame: Any) -> None:
    """Raises KeyboardInterrupt at the first Ctrl-C; a second one ends the process immediately."""
    signal.signal(signal.SIGINT, leave_at_once)
    raise KeyboardInterrupt


def leave_at_once(number: int, frame: Any) -> None:
    """Exits without cleanup: an exception here would not be caught."""
    os._exit(INTERRUPTED)
