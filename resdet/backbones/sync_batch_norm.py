"""Batch norm over the batches of all processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed._functional_collectives import wait_tensor


@torch.compiler.assume_constant_result
def process_group() -> str | None:
    """Returns the name of the group of all processes, None for a single process.

    A group object would be cached by `torch.compile` and kept alive after `destroy_process_group`.
    """
    group = dist.group.WORLD if dist.is_initialized() and dist.get_world_size() > 1 else None
    return group.group_name if group is not None else None


class AllReduceSum(torch.autograd.Function):
    """Sums a tensor over the processes of a group; the gradient is the sum of their gradients.

    `torch.distributed.nn.functional.all_reduce` is deprecated and not supported by `torch.compile`.
    """

    @staticmethod
    def forward(ctx, x: Tensor, group: str) -> Tensor:
        ctx.group = group
        return all_reduce_sum(x, group)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return all_reduce_sum(grad, ctx.group), None


def all_reduce_sum(x: Tensor, group: str) -> Tensor:
    return wait_tensor(torch.ops._c10d_functional.all_reduce(x.contiguous(), "sum", group))


def all_gather(x: Tensor, group: str, size: int) -> Tensor:
    """Gathers x [n] from all processes of a group of this size: [size, n]."""
    return wait_tensor(torch.ops._c10d_functional.all_gather_into_tensor(x[None], size, group))


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on any device; torch's SyncBatchNorm supports GPUs only.

    Every pixel has the same weight, even if processes pad images to different shapes.
    """

    def forward(self, x: Tensor) -> Tensor:
        group = process_group() if self.training else None
        if group is None:
            return super().forward(x)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        normalize = normalize_by_kernels if has_kernels(x) else normalize_by_collectives
        return normalize(self, x, group)


def has_kernels(x: Tensor) -> bool:
    """Returns whether torch has synchronized norm kernels for x; compiled code fuses the formulas instead."""
    return x.is_cuda and not torch.compiler.is_compiling()


def normalize_by_collectives(norm: SyncBatchNorm2d, x: Tensor, group: str) -> Tensor:
    """Normalizes by formulas with sums over processes, which autograd differentiates and `torch.compile` fuses."""
    wide, pixels = x.float(), x.numel() // x.shape[1]
    totals = AllReduceSum.apply(torch.cat([pixels * wide.mean((0, 2, 3)), wide.new_full((1,), pixels)]), group)
    count = totals[-1].detach()
    mean = totals[:-1] / count
    # Centered on the common mean, since E[x²] - E[x]² would lose precision.
    centered = wide - mean[:, None, None]
    var = AllReduceSum.apply(pixels * centered.square().mean((0, 2, 3)), group) / count
    track(norm, mean.detach(), var.detach(), count)
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return (centered * scale[:, None, None] + norm.bias[:, None, None]).to(x.dtype)


@torch.no_grad()
def track(norm: SyncBatchNorm2d, mean: Tensor, var: Tensor, count: Tensor) -> None:
    """Updates the running statistics."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(var * (count / (count - 1).clamp(min=1)), norm.momentum)


def normalize_by_kernels(norm: SyncBatchNorm2d, x: Tensor, group: str) -> Tensor:
    """Normalizes with torch's kernels: forward and backward read x twice and write it once."""
    parameters = norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps
    return KernelSyncBatchNorm.apply(x, *parameters, group, dist.get_world_size())


class KernelSyncBatchNorm(torch.autograd.Function):
    """As the function in torch's SyncBatchNorm, but without a device sync in each forward pass.

    torch syncs to exclude processes without pixels; here, each process has pixels.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        group: str,
        size: int,
    ) -> Tensor:
        x, channels = dense(x), x.shape[1]
        mean, invstd = torch.batch_norm_stats(x, eps)
        local = torch.cat([mean, invstd, mean.new_full((1,), x.numel() // channels)])
        means, invstds, counts = all_gather(local, group, size).split([channels, channels, 1], 1)
        running = running_mean, running_var, momentum, eps
        counts = counts.flatten()
        mean, invstd = torch.batch_norm_gather_stats_with_counts(x, means, invstds, *running, counts)
        ctx.group = group
        ctx.save_for_backward(x, weight, mean, invstd, counts.int())
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd, counts = ctx.saved_tensors
        given = dense(grad), x, mean, invstd, weight
        sums, centered_sums, to_weight, to_bias = torch.batch_norm_backward_reduce(*given, True, True, True)
        totals = all_reduce_sum(torch.cat([sums, centered_sums]), ctx.group).chunk(2)
        to_x = torch.batch_norm_backward_elemt(*given, *totals, counts)  # type: ignore[call-arg]  # torch's stub lacks counts
        return to_x, to_weight, to_bias, None, None, None, None, None, None


def dense(x: Tensor) -> Tensor:
    """Returns x in a memory format of the kernels."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()
