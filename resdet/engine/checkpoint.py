"""Checkpoints of a run: `last.pth` for resuming, `best.pth` for inference.

They contain only tensors and plain values, so that torch.load reads them with weights_only=True.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.engine import saved_state
from resdet.errors import ConfigError
from resdet.weights import torch_files
from resdet.weights.renames import current_names

LAST, BEST = "last.pth", "best.pth"


def is_stale(waited: int, patience: int | None) -> bool:
    """Whether a run stops early: `waited` evaluations without improvement have reached `patience`."""
    return patience is not None and waited >= patience


def has_ended(content: dict[str, Any]) -> bool:
    """Whether last.pth belongs to a complete run: evaluated at its last step, or stopped early."""
    state = content["trainer"]
    if state.get("evaluation_due", False):
        return False
    return state["step"] >= state["total"] or is_stale(state["waited"], content["experiment"]["train"]["patience"])


def check_classes(before: Sequence[str], classes: Sequence[str], path: Path) -> None:
    """Refuses data with another index for a class of the checkpoint: its last layers would predict other classes."""
    for number, name in enumerate(classes):
        if before[number : number + 1] != [name] and name in before:
            raise ConfigError(
                f"{path} has the class {name} as number {before.index(name)}, and the data has it as number {number}: "
                "resume with the data of that run, or start a new run from its weights with --init and --out."
            )


def read_last(out: Path) -> dict[str, Any]:
    """Reads and validates the last.pth of a run."""
    content = saved_state.validate(torch_files.read(out / LAST), out / LAST)
    content["model"] = current_names(content["model"])
    if content["trainer"]["averaged"]:
        content["trainer"]["averaged"] = current_names(content["trainer"]["averaged"])
    return content
