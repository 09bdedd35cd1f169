"""A run's files: `last.pth` to go on from, `best.pth` to use. Written whole or not at all."""

from pathlib import Path
from typing import Any, Optional

from resdet.errors import WeightsError
from resdet.weights.reading import read_torch
from resdet.writing import write_torch

LAST, BEST = "last.pth", "best.pth"


def write(content: dict[str, Any], path: Path) -> None:
    """Tensors and plain values alone, so that any torch reads the file with weights_only=True."""
    write_torch(path, content)


def is_stale(waited: int, patience: Optional[int]) -> bool:
    """Whether a run stops early, after so many evaluations since its best."""
    return patience is not None and waited >= patience


def has_ended(content: dict[str, Any]) -> bool:
    """Whether last.pth is of a run that is complete: at its last step, or stopped early."""
    state = content["trainer"]
    return state["step"] >= state["total"] or is_stale(state["waited"], content["experiment"]["train"]["patience"])


def way_on(out: Path) -> str:
    """What to do after a run that failed to write a file."""
    if not (out / LAST).exists():
        return "start again"
    return f"go on from step {read_last(out)['trainer']['step']} by --resume"


def read_last(out: Path) -> dict[str, Any]:
    """What `write` put into a run's last.pth."""
    content = read_torch(out / LAST)
    if not isinstance(content, dict) or "trainer" not in content:
        raise WeightsError(
            f"{out / LAST} holds no state of a run: start afresh with another --out, or use --init for its weights."
        )
    return content
