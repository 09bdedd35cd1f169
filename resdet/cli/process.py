"""The `resdet` command as a whole process: no traceback from Ctrl-C or from an output of another encoding."""

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
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # of images that cannot be decoded, resdet has a sentence
    accept_all_text()
    try:
        status = cli.main(words)
    except KeyboardInterrupt:  # a second Ctrl-C while the first is handled
        status = INTERRUPTED
    signal.signal(signal.SIGINT, leave_at_once)
    return status


def accept_all_text() -> None:
    """Makes stdout escape the characters that its encoding lacks, as on Windows, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def interrupt_once(number: int, frame: Any) -> None:
    """The first Ctrl-C raises KeyboardInterrupt; a second one ends the process immediately."""
    signal.signal(signal.SIGINT, leave_at_once)
    raise KeyboardInterrupt


def leave_at_once(number: int, frame: Any) -> None:
    """Exits without cleanup: no code would catch an exception here."""
    os._exit(INTERRUPTED)
