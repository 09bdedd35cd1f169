"""What several test folders share."""

import os
from functools import partial

import pytest
import running
import torch
from narrow import narrow_resnets

# Tests are small and several run at once (`make test`): more threads only slow them.
THREADS = int(os.environ.get("OMP_NUM_THREADS", 1))
torch.set_num_threads(THREADS)  # also for fixtures of a session or a module


@pytest.fixture(autouse=True)
def few_threads():
    torch.set_num_threads(THREADS)


@pytest.fixture
def command(tmp_path):
    """Runs `resdet …` in an empty folder, in this process; returns a CompletedProcess. See `running.here`."""
    return partial(running.here, tmp_path)


@pytest.fixture
def fork(tmp_path):
    """Runs `resdet …` in an empty folder, in forked processes; returns a CompletedProcess. See `running.fork`."""
    return partial(running.fork, tmp_path)


@pytest.fixture
def start(tmp_path):
    """Starts `resdet …` in an empty folder, in a new interpreter; returns the running Popen. See `running.process`."""
    return partial(running.process, tmp_path)


@pytest.fixture
def tiny() -> list[str]:
    """The arguments of a run of a few seconds."""
    return list(running.TINY)


@pytest.fixture(scope="module")
def narrow():
    """ResNets of a hundredth of the weights, for all tests of a module. See `narrow.narrow_resnets`."""
    with narrow_resnets():
        yield
