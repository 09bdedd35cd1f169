"""Checks the batches when worker processes receive signals or are killed."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from running import REPOSITORY
from torch.utils.data import Dataset

from resdet.data.loader import collated
from resdet.errors import Error

pytest.importorskip("fcntl", reason="needs the signals of POSIX")

KEYS = [[2 * step, 2 * step + 1] for step in range(12)]
EXPECTED = [([4 * step**2, (2 * step + 1) ** 2], []) for step in range(12)]


class Squares(Dataset):
    """Squares its keys and sends a signal to its process at the keys in `at`, once per key or always."""

    def __init__(self, folder, at, number=signal.SIGKILL, once=True):
        self.folder, self.at, self.number, self.once = folder, at, number, once

    def __getitem__(self, key):
        mark = self.folder / str(key)
        if key in self.at and not (self.once and mark.exists()):
            mark.touch()
            os.kill(os.getpid(), self.number)
        return key**2


def gather(samples):
    return samples, []


def made(samples, workers=2):
    return list(collated(samples, iter(KEYS), gather, workers, torch.device("cpu")))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_batches_of_a_killed_worker_are_made_again(tmp_path, workers):
    handler = signal.getsignal(signal.SIGCHLD)
    assert made(Squares(tmp_path, {9, 16}), workers) == EXPECTED
    assert signal.getsignal(signal.SIGCHLD) is handler  # torch's handler would raise during a step


def test_a_batch_that_kills_every_worker_is_an_error(tmp_path):
    batches = collated(Squares(tmp_path, {9}, once=False), iter(KEYS), gather, 2, torch.device("cpu"))
    got = []
    with pytest.raises(Error, match="Loader workers died twice at the same batch"):
        for batch in batches:
            got.append(batch)
    assert len(got) <= 4 and got == EXPECTED[: len(got)]  # batches finished before by the killed worker may be lost


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_ignore_signals_to_the_run(tmp_path, number, caplog):
    assert made(Squares(tmp_path, {5, 9, 20}, number, once=False)) == EXPECTED
    assert not caplog.records


@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_are_not_converted(workers):
    class Broken(Dataset):
        def __getitem__(self, key):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        made(Broken(), workers)


LIVE = """
import torch
from data.test_loader_workers import KEYS, Squares, collated, gather
from pathlib import Path
batches = collated(Squares(Path("."), {{}}), iter(KEYS), gather, 2, torch.device("cpu"))
print(next(batches)[0])
{end}
"""


@pytest.mark.parametrize("end, status", [("", 0), ("raise RuntimeError('a bug')", 1)])
def test_a_process_ends_while_its_workers_run(end, status, tmp_path):
    """Ends a process whose workers ignore SIGTERM, which multiprocessing sends them at exit."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))}
    script = [sys.executable, "-c", LIVE.format(end=end)]
    finished = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.stdout == "[0, 1]\n" and finished.returncode == status
