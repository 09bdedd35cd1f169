"""The record of a run: config.yaml, its resolved experiment, and run.json, its time, command, device and versions."""

import json
import os
import platform
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from resdet import __version__
from resdet.files.atomic import write_json, write_text

CONFIG, RECORD = "config.yaml", "run.json"
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "timm")
UNNAMED = "none"  # id of a torchrun without --rdzv-id


def record(out: Path, experiment: str, seed: int, device: torch.device, world: int) -> None:
    """Writes both files; `experiment`: the content of config.yaml."""
    write_text(out / CONFIG, experiment)
    facts: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": sys.argv,
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processes": world,
        "torchrun": torchrun_id(),
        "threads": torch.get_num_threads(),
        "resdet": __version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "packages": versions(),
    }
    write_json(out / RECORD, facts)


def read_record(folder: Path) -> dict[str, Any]:
    """The content of run.json; empty without one."""
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def torchrun_id() -> str | None:
    """The identity of the torchrun of this process: its --rdzv-id, or else its process; None without torchrun."""
    given = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{socket.gethostname()}:{os.getppid()}" if given == UNNAMED else given


def versions() -> dict[str, str]:
    result = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            result[package] = metadata.version(package)
    return result


def processor() -> str:
    """The CPU's name and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def git_revision() -> str | None:
    """The commit of the running checkout, with a + if it is modified.

    None for an installed package, without git, and where git refuses the checkout as that of another user.
    """
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    git = lambda *words: subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
