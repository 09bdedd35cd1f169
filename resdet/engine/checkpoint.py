"""A run's files: `last.pth` to go on from, `best.pth` to use. Written whole or not at all."""

from pathlib import Path
from typing import Any

from resdet.engine import saved_state
from resdet.files.atomic import write_torch
from resdet.weights.reading import read_torch
from resdet.weights.renames import current_names

LAST, BEST = "last.pth", "best.pth"


def write(content: dict[str, Any], path: Path) -> None:
    """Tensors and plain values alone, so that any torch reads the file with weights_only=True."""
    write_torch(path, content)


def is_stale(waited: int, patience: int | None) -> bool:
    """Whether a run stops early, after so many evaluations since its best."""
    return patience is not None and waited >= patience


def has_ended(content: dict[str, Any]) -> bool:
    """Whether last.pth is of a run that is complete: evaluated at its last step, or stopped early."""
    state = content["trainer"]
    if state.get("evaluation_due", False):
        return False
    return state["step"] >= state["total"] or is_stale(state["waited"], content["experiment"]["train"]["patience"])


def read_last(out: Path) -> dict[str, Any]:
    """What `write` put into a run's last.pth."""
    content = saved_state.checked(read_torch(out / LAST), out / LAST)
    content["model"] = current_names(content["model"])
    if content["trainer"]["averaged"]:
        content["trainer"]["averaged"] = current_names(content["trainer"]["averaged"])
    return content
