"""Checks that leaving the process group ends its threads: a thread that outlives the interpreter aborts the process."""

import contextlib
import os
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from running import environment, fork_functions
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resdet.backbones.sync_batch_norm import SyncBatchNorm2d
from resdet.engine import distributed

TASKS = Path("/proc/self/task")
pytestmark = pytest.mark.skipif(not TASKS.is_dir(), reason="threads are counted in /proc")


def gloo_threads():
    return sum("gloo" in (task / "comm").read_text() for task in TASKS.iterdir())


def train():
    model = DistributedDataParallel(nn.Linear(2, 2), gradient_as_bucket_view=True)
    model(torch.ones(1, 2)).sum().backward()


def fail():
    model = DistributedDataParallel(nn.Linear(2, 2))
    try:
        model(torch.ones(1, 3))
    except RuntimeError as error:
        raise ValueError("an error that is chained to one whose traceback holds the model") from error


def compile_synchronized_norm():
    step = nn.Sequential(nn.Conv2d(3, 4, 1), SyncBatchNorm2d(4))
    step.compile(fullgraph=True, dynamic=False, backend="aot_eager")
    step(torch.randn(2, 3, 4, 4)).square().sum().backward()


def main(rank, port):
    os.environ |= environment(rank, 2, port)
    torch.set_num_threads(1)
    warnings.simplefilter("error", FutureWarning)
    with contextlib.suppress(ValueError):
        use_a_group()
    assert gloo_threads() == 0


def use_a_group():
    distributed.join("cpu")
    try:
        train()
        compile_synchronized_norm()
        fail()
    finally:
        distributed.leave()


def test_no_thread_of_gloo_survives_the_group():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    fork_functions(main, store.port)
