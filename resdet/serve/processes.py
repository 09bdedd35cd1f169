"""Server processes, one per GPU, on consecutive ports."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from types import FrameType

import torch

from resdet.errors import Error
from resdet.serve.server import Settings, serve
from resdet.system import INTERRUPTED

USER_ERROR = 2  # exit status
VISIBLE = "CUDA_VISIBLE_DEVICES"


def serve_in_processes(settings: Settings, count: int, gpus: Sequence[str]) -> int:
    """Serves on `settings.port` and the ports above it until SIGTERM or SIGINT; ends all processes if one ends.

    Each process sees one of `gpus`, which are entries of CUDA_VISIBLE_DEVICES.

    Returns the exit status: 2 if a process printed a user error, 1 if one failed otherwise. A second SIGINT ends all
    processes immediately.
    """
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=serve_one, args=(settings, rank, count, gpus)) for rank in range(count)]
    stopped = False

    def stop(number: int | None = None, frame: FrameType | None = None) -> None:
        nonlocal stopped
        at_once = stopped and number == signal.SIGINT
        stopped = True
        for process in processes:
            if process.is_alive():
                process.kill() if at_once else process.terminate()
        if at_once:
            os._exit(INTERRUPTED)

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for process in processes:
            process.start()
        if not stopped:  # without processes, if a signal arrives before the first start
            wait([process.sentinel for process in processes])
        asked = stopped
        stop()
        for process in processes:
            process.join()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if asked:
        return 0
    print("resdet: a process of the server ended, and the others were stopped.", file=sys.stderr)
    return USER_ERROR if any(process.exitcode == USER_ERROR for process in processes) else 1


def serve_one(settings: Settings, rank: int, count: int, gpus: Sequence[str]) -> None:
    """Runs one of the processes, with its GPU and its share of the CPUs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles it
    if gpus:
        os.environ[VISIBLE] = gpus[rank % len(gpus)]
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        serve(replace(settings, port=settings.port + rank))
    except Error as error:
        print(f"resdet: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)


def visible_gpus() -> list[str]:
    """Returns the GPUs as entries of CUDA_VISIBLE_DEVICES."""
    given = os.environ.get(VISIBLE)
    return (
        [name for name in given.split(",") if name]
        if given is not None
        else list(map(str, range(torch.cuda.device_count())))
    )
