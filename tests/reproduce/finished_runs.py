"""Writes the last.pth of a run without training."""

from pathlib import Path
from typing import Any

import torch


def write_last(folder: Path, experiment: dict[str, Any], step: int, total: int = 10, waited: int = 0) -> None:
    """Writes the checkpoint of a run at `step` of `total`, `waited` evaluations after the best one."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = {
        "step": step,
        "total": total,
        "waited": waited,
        "best": None,
        "optimizer": {"state": {}, "param_groups": [{"params": []}]},
        "scaler": {},
        "averaged": None,
        "schedule": {"holds": False, "reductions": 0, "waited": 0},
        "window": {"rows": [], "indices": [], "names": [], "losses": 0},
    }
    torch.save({"model": {}, "trainer": trainer, "experiment": experiment}, folder / "last.pth")
