"""Gradient averaging over processes: DistributedDataParallel as configured by `train.ddp`."""

import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from resdet.engine.config import DDPConfig


def in_parallel(step: nn.Module, config: DDPConfig, device: torch.device) -> DistributedDataParallel:
    """Wraps the module so that its gradients are averaged over all processes."""
    with warnings.catch_warnings():
        # Not all supported versions of torch have the replacement of this argument.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        module = DistributedDataParallel(
            step,
            [device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            bucket_cap_mb=config.bucket_cap_mb,
            gradient_as_bucket_view=config.gradient_as_bucket_view,
            static_graph=config.static_graph,
        )
    compress(module, config)
    return module


def compress(module: DistributedDataParallel, config: DDPConfig) -> None:
    """Registers torch's communication hook that compresses gradients."""
    if config.compress == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            dist.group.WORLD,
            matrix_approximation_rank=config.powersgd_rank,
            start_powerSGD_iter=config.powersgd_start,
        )
        module.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    elif config.compress is not None:
        hooks = {"fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}
        module.register_comm_hook(dist.group.WORLD, hooks[config.compress])
