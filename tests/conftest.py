"""What several test folders share."""

import os
from functools import partial

import pytest
import running
import torch

# Tests are small, and several may run at once (`make test`): more threads only slow them.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
THREADS = max(1, min(2, (os.cpu_count() or 1) // WORKERS))


@pytest.fixture(autouse=True)
def few_threads():
    torch.set_num_threads(THREADS)


@pytest.fixture
def command(tmp_path):
    """Runs `resdet …` in an empty folder; returns the finished process."""
    return partial(running.run, tmp_path)


@pytest.fixture
def start(tmp_path):
    """Starts `resdet …` and returns the running process."""
    return partial(running.process, tmp_path)


@pytest.fixture
def tiny() -> list[str]:
    """The arguments of a run of a few seconds."""
    return list(running.TINY)
