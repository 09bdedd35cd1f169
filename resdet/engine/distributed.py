"""Distributed training with torchrun: gloo on CPUs, NCCL on GPUs. Without torchrun, a single process."""

import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resdet.engine.rendezvous import meet
from resdet.errors import ConfigError, Error, require

T = TypeVar("T")


TIMEOUT = 1800.0  # seconds that a process waits for another one
DEVICES = r"cpu|cuda(:\d+)?"
BACKENDS = ("gloo", "Gloo", "NCCL", "ProcessGroup")  # each error message of a failed collective contains one of these


class LostProcess(Error):
    """Another process has ended or does not respond."""


@dataclass(frozen=True)
class World:
    """Rank and device of this process, and the number of processes."""

    rank: int
    size: int
    device: torch.device
    number: Callable[[str], int] | None = None  # see `numbers_in`; None: a single process

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Returns the indices below `count` that this process evaluates."""
        return range(self.rank, count, self.size)

    def options(self, data: Any) -> dict[str, Any]:
        """Returns arguments of an evaluation: loader workers, handling of damaged images, rank and world size."""
        return {"workers": data.workers, "on_bad_image": data.on_bad_image, "rank": self.rank, "world": self.size}

    def require_single(self) -> None:
        if self.size > 1:
            raise ConfigError("A submission needs a single process: run the command without torchrun.")


def join(device: str = "auto", timeout: float = TIMEOUT, key: str = "train.device") -> World:
    """Joins the process group of torchrun; without torchrun, returns a world of one process."""
    rank, size, local = (
        int(os.environ.get(key, default)) for key, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    chosen = choose_device(device, local, key)
    if size > 1 and not dist.is_initialized():
        # DistributedDataParallel imports this module, whose default arguments would keep an existing process group
        # alive forever: import it before the group is created.
        import torch.distributed.nn.functional  # noqa: F401

        # gloo in addition to NCCL, so that processes can agree on a stop without synchronizing with their devices.
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        limit = timedelta(seconds=timeout)
        with tell_loss(lambda: "before the start"):
            store, _, _ = next(dist.rendezvous("env://", timeout=limit))
            start_store = dist.PrefixStore(meet(store, rank, size, timeout), store)
            dist.init_process_group(backend, store=start_store, rank=rank, world_size=size, timeout=limit)
        return World(rank, size, chosen, numbers_in(start_store))
    return World(rank, size, chosen)


def numbers_in(store: dist.Store) -> Callable[[str], int]:
    """Returns a function that numbers the names given by all processes, from 1; it returns 0 for a repeated name."""

    def number(name: str) -> int:
        key = f"resdet/name/{name}".encode("utf-8", "backslashreplace").decode()  # file names that are not UTF-8
        is_new = store.add(key, 1) == 1
        return store.add("resdet/names", 1) if is_new else 0

    return number


def choose_device(device: str, local_rank: int = 0, key: str = "train.device") -> torch.device:
    """Returns the torch device; `auto` is the GPU of this process if it has one, else the CPU. `key`: the config key,
    for errors.

    A GPU becomes torch's current device, which streams and CUDA graphs use.
    """
    chosen = device_of(device, local_rank, key)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return chosen


def device_of(device: str, local_rank: int = 0, key: str = "train.device") -> torch.device:
    """Returns the validated torch device; a GPU has its index."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    require(bool(re.fullmatch(DEVICES, device)), key, device, "give auto, cpu, cuda or cuda:N")
    chosen = torch.device(device)
    if chosen.type != "cuda":
        return chosen
    require(torch.cuda.is_available(), key, device, "torch has no usable GPU on this machine; give auto or cpu")
    number, count = local_rank if chosen.index is None else chosen.index, torch.cuda.device_count()
    require(number < count, key, device, f"GPU {number} does not exist, the last one is {count - 1}; name another")
    return torch.device("cuda", number)


@contextmanager
def tell_loss(place: Callable[[], str]) -> Iterator[None]:
    """Converts the error of a failed collective to a LostProcess that names this process and the place."""
    try:
        yield
    except RuntimeError as error:
        if not is_loss(error):
            raise
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        reason = str(error).strip().splitlines()[0].rsplit("] ", 1)[-1][:80]
        raise LostProcess(
            f"Process {rank} of {size} has lost another one {place()} ({reason}): that process has ended, or its "
            "machine or network does not respond; torchrun with --max-restarts continues the run."
        ) from error


def is_loss(error: BaseException) -> bool:
    """Whether a collective failed or timed out."""
    known = isinstance(error, RuntimeError) and any(name in str(error) for name in BACKENDS)
    return known or isinstance(error, dist.DistError)


def leave() -> None:
    """Destroys the process group and gloo's threads.

    A gloo thread that outlives the interpreter aborts the process (pytorch/pytorch#179291). The threads end with the
    last reference to the group, so this function first releases modules in reference cycles and the variables in the
    traceback of an error in flight.
    """
    if not dist.is_initialized():
        return
    error = sys.exc_info()[1]
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()  # compiled steps refer to their module
    gc.collect()
    dist.destroy_process_group()


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on any rank. Synchronizes the processes, but not their devices."""
    if not dist.is_initialized():
        return flag
    vote = torch.tensor(float(flag))
    dist.all_reduce(vote, dist.ReduceOp.MAX)
    return bool(vote.item())


def from_main(compute: Callable[[], T]) -> T:
    """Computes on rank 0; all ranks return the result or raise its Error."""
    if not dist.is_initialized():
        return compute()
    shared: list = [None, None]  # the result, the error
    if dist.get_rank() == 0:
        try:
            shared[0] = compute()
        except Error as error:
            shared[1] = error
    dist.broadcast_object_list(shared, src=0)
    if shared[1] is not None:
        raise shared[1]
    return shared[0]


def average(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor with its mean over all processes."""
    if not dist.is_initialized():
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


def gather(parts: list) -> list:
    """Concatenates the lists of all processes."""
    if not dist.is_initialized():
        return parts
    shares: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shares, parts)
    return [part for share in shares for part in share]


def average_statistics(model: nn.Module) -> None:
    """Averages batch norm statistics, which differ between processes, before an evaluation or a checkpoint."""
    average(buffer for name, buffer in model.named_buffers() if name.endswith(("running_mean", "running_var")))
