"""Many processes and machines by plain torchrun: gloo on CPUs, NCCL on GPUs. Without torchrun, one process."""

import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resdet.errors import ConfigError, Error, require

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Which process this is, of how many, and the device it has."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """The one process that writes files and prints."""
        return self.rank == 0


def join(device: str = "auto") -> World:
    """Joins the processes that torchrun started, if it did."""
    rank, size, local = (
        int(os.environ.get(key, default)) for key, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    chosen = choose_device(device, local)
    if size > 1 and not dist.is_initialized():
        # DistributedDataParallel imports this module, whose default arguments keep the group that exists at that time
        # alive forever: import it while there is none.
        import torch.distributed.nn.functional  # noqa: F401

        # gloo beside NCCL, so that processes agree on a stop without waiting for their devices.
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size)
    return World(rank, size, chosen)


def choose_device(device: str, local_rank: int = 0) -> torch.device:
    """`auto`: the GPU of this process where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"train.device is {device!r}: give auto, cpu or cuda.") from None
    usable = chosen.type != "cuda" or torch.cuda.is_available()
    require(usable, "train.device", device, "torch finds no GPU here that it can use; give auto or cpu")
    if device == "cuda":
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return chosen


def leave() -> None:
    """Destroys the process group, and with it the threads of gloo.

    A thread of gloo that outlives the interpreter aborts the process (pytorch/pytorch#179291). The threads end with
    the last reference to the group, so that what refers to it goes first: modules in reference cycles, and the
    variables in the traceback of an error on its way to the caller.
    """
    if not dist.is_initialized():
        return
    error = sys.exc_info()[1]
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()  # compiled steps refer to the module that they were compiled from
    gc.collect()
    dist.destroy_process_group()


def any_rank(flag: bool) -> bool:
    """Whether any process says yes. The processes wait for one another, and not for their devices."""
    if not dist.is_initialized():
        return flag
    vote = torch.tensor(float(flag))
    dist.all_reduce(vote, dist.ReduceOp.MAX)
    return bool(vote.item())


def from_main(compute: Callable[[], T]) -> T:
    """Computes in the leading process and returns the result in all; its Error is raised in all."""
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
    """Replaces each tensor by its mean over the processes."""
    if not dist.is_initialized():
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


def gathered(parts: list) -> list:
    """Those of all processes."""
    if not dist.is_initialized():
        return parts
    shares = [None] * dist.get_world_size()
    dist.all_gather_object(shares, parts)
    return [part for share in shares for part in share]


def average_statistics(model: nn.Module) -> None:
    """Batch norms follow their own process's batches; before a model is judged or saved they are made one."""
    average(buffer for name, buffer in model.named_buffers() if name.endswith(("running_mean", "running_var")))
