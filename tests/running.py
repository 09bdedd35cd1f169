"""Runs `resdet WORDS` in a test, in one of three ways, from the cheapest to the most realistic.

- `here` runs it in the process of the test: for checks of what a command prints and writes.
- `fork` runs it in one or more ranks forked from a server with all imports done: for signals, distributed runs and
  checks that must not depend on the state of the test process.
- `process` and `run` start an interpreter (6 seconds of CPU time, 20 under torchrun): for checks of how a process
  starts or ends.
"""

import contextlib
import io
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from resdet import cli

REPOSITORY = Path(__file__).parents[1]
PATHS = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))

# A run of a few seconds: 8 layers, 64 generated images.
TINY = [
    "--config",
    "shapes_resnet20.yaml",
    "model.backbone=cifar_resnet8",
    "data.train_images=64",
    "data.val_images=32",
    "train.batch=8",
    "train.precision=fp32",
    "schedule.warmup=0",
    "train.evaluate_every=10",
    "train.checkpoint_every=5",
    "train.log_every=5",
]

# A run that loads its images in loader workers.
LOADED = [
    "--config",
    "shapes_r18.yaml",
    "model.backbone=resnet18",
    "data.size=32",
    "data.short=36",
    "data.augment.short=[36,48]",
    "data.train_images=64",
    "data.workers=2",
    "train.batch=8",
    "train.unit=steps",
    "train.precision=fp32",
    "schedule.warmup=0",
]

COMMAND = ("-m", "resdet.cli")
LIMIT = 600  # seconds after which a process counts as hung; generous, for a busy machine


def here(folder: Path, *words) -> subprocess.CompletedProcess:
    """Runs `resdet WORDS` in a folder, in this process and with one thread; unexpected exceptions propagate."""
    output, errors = io.StringIO(), io.StringIO()
    with inside(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = status_of([str(word) for word in words])
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


def status_of(words: list[str]) -> int:
    try:
        return cli.main(words)
    except SystemExit as end:  # raised by argparse
        return end.code or 0


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Changes to a folder and to one thread; on exit also undoes the global settings of `train.deterministic`."""
    before, threads, benchmark = os.getcwd(), torch.get_num_threads(), torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def process(folder: Path, *words, launcher: tuple[str, ...] = COMMAND) -> subprocess.Popen:
    """Starts `resdet WORDS` of this checkout in a folder, with one thread."""
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, *launcher, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(arguments, cwd=folder, env=environment, **pipes)


def run(folder: Path, *words, launcher: tuple[str, ...] = COMMAND) -> subprocess.CompletedProcess:
    """Runs `process` to its end."""
    started = process(folder, *words, launcher=launcher)
    try:
        output, errors = started.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        started.terminate()
        raise AssertionError(started.communicate()[1]) from None
    return subprocess.CompletedProcess(started.args, started.returncode, output, errors)


def fork(folder: Path, *words, ranks: int = 1, first: Callable[[], None] | None = None) -> subprocess.CompletedProcess:
    """Runs `resdet WORDS` in `ranks` processes with the environment of torchrun; each process calls `first` before.

    `first` is pickled by name: a module-level function or a partial of one. The status is that of the first rank that
    fails, negative if a signal ended it. The output of the ranks is concatenated.
    """
    context = forking()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if ranks > 1 else None
    streams = [tuple(folder / f".{name}{rank}" for name in ("output", "errors")) for rank in range(ranks)]
    places = [environment(rank, ranks, store.port) if store else {} for rank in range(ranks)]
    started = [
        context.Process(target=forked, args=(folder, list(map(str, words)), place, files, first))
        for place, files in zip(places, streams)
    ]
    for one in started:
        one.start()
    status = status_of_all(started)
    output, errors = ("".join(file.read_text() for file in files if file.exists()) for files in zip(*streams))
    for file in (file for files in streams for file in files):
        file.unlink(missing_ok=True)
    assert status is not None, f"hung: {errors}"
    return subprocess.CompletedProcess(words, status, output, errors)


def forking() -> multiprocessing.context.BaseContext:
    """Starts a fork server with all imports done and returns its multiprocessing context."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs forks")
    multiprocessing.set_forkserver_preload(["preloaded"])
    with mock.patch.dict(os.environ, PYTHONPATH=PATHS):
        forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def fork_functions(function: Callable, *given, ranks: int = 2) -> None:
    """Calls `function(rank, *given)` in forked processes; the first exception propagates."""
    forking()
    torch.multiprocessing.start_processes(function, given, nprocs=ranks, start_method="forkserver")


def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Returns the variables that torchrun sets. The caller serves the store at the port, like torchrun's agent."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    words = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return words | {key: str(number) for key, number in numbers.items()}


def status_of_all(started: list) -> int | None:
    """Waits for all processes; returns the first nonzero status or 0, or None if they hang."""
    running, status = list(started), 0
    try:
        while running:
            ready = wait([one.sentinel for one in running], LIMIT)
            if not ready:
                return None
            status = status or next((one.exitcode for one in running if one.sentinel in ready and one.exitcode), 0)
            running = [one for one in running if one.sentinel not in ready]
        return status
    finally:
        for one in running:
            one.kill()


def forked(
    folder: Path, words: list[str], place: dict[str, str], files: tuple[Path, Path], first: Callable[[], None] | None
) -> None:
    """Redirects the output and runs the command in a process of `fork`."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ |= place
    os.chdir(folder)
    torch.set_num_threads(1)
    if first:
        first()
    sys.exit(status_of(words))
