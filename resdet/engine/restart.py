"""Restarts by torchrun: the processes continue the run of the former ones, without --resume."""

import json
import os
import socket
from pathlib import Path
from typing import Any

UNNAMED = "none"  # of a torchrun without --rdzv-id


def torchrun_id() -> str | None:
    """The identity of the torchrun of this process: its --rdzv-id, or else its process; None without torchrun."""
    given = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{socket.gethostname()}:{os.getppid()}" if given == UNNAMED else given


def read_facts(folder: Path) -> dict[str, Any]:
    """The content of run.json; empty without one."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def is_own(folder: Path) -> bool:
    """Whether an earlier start by this torchrun made the folder.

    Process numbers repeat: without --rdzv-id, only a restart counts.
    """
    run_id = torchrun_id()
    named = os.environ.get("TORCHELASTIC_RUN_ID") != UNNAMED
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    return run_id is not None and (named or restarted) and read_facts(folder).get("torchrun") == run_id
