"""Runs `resdet WORDS` under torchrun's agent with forked processes, which start faster than new interpreters."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import running
import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def torchrun(folder: Path, *words, ranks: int, restarts: int) -> str:
    """Runs like `torchrun --standalone --nproc-per-node RANKS --max-restarts RESTARTS`; returns the ranks' stderr.

    The agent runs in a thread, where it cannot replace the signal handlers of the tests.
    """
    running.forking()
    logs = DefaultLogsSpecs(str(folder / "logs"), Std.ALL)
    meeting = {"run_id": "job", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    config = LaunchConfig(1, 1, ranks, logs, max_restarts=restarts, start_method="forkserver", **meeting)
    with mock.patch.dict(os.environ), ThreadPoolExecutor(1) as pool:
        pool.submit(elastic_launch(config, worker), folder, list(map(str, words))).result(running.LIMIT)
    return "".join(path.read_text() for path in sorted((folder / "logs").rglob("stderr.log")))


def worker(folder: Path, words: list[str]) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    if status := running.status_of(words):
        sys.exit(status)
