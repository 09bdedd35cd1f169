"""The record of a run: config.yaml, its resolved experiment, and run.json, its time, command, device and versions."""

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from resdet import __version__
from resdet.engine.checkpoint import LAST
from resdet.engine.metrics_file import METRICS
from resdet.files.atomic import write_json, write_text

CONFIG, RECORD = "config.yaml", "run.json"
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "timm")
UNNAMED = "none"  # torchrun's id without --rdzv-id


@contextmanager
def recorded(out: Path, experiment: str, seed: int, device: torch.device, world: int) -> Iterator[None]:
    """Writes the record of a run. If the run fails before it logs or saves anything, removes a new record, so that the
    corrected command uses the same folder."""
    is_new = not (out / RECORD).exists()
    record(out, experiment, seed, device, world)
    try:
        yield
    except Exception:
        has_begun = any(path.name in (METRICS, LAST) for path in (*out.glob("*"), *out.glob("*/*")))
        if is_new and not has_begun:
            (out / CONFIG).unlink(missing_ok=True)
            (out / RECORD).unlink(missing_ok=True)
        raise


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
    """Reads run.json; empty if it does not exist."""
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def torchrun_id() -> str | None:
    """Identifies the torchrun that started this process: its --rdzv-id, or its process id; None without torchrun."""
    given = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{socket.gethostname()}:{os.getppid()}" if given == UNNAMED else given


def versions() -> dict[str, str]:
    result = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            result[package] = metadata.version(package)
    return result


def processor() -> str:
    """Returns the CPU's name and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def git_revision() -> str | None:
    """Returns the commit of the running checkout, with a + if it is modified.

    None for an installed package, without git, and if git refuses the checkout because another user owns it.
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
