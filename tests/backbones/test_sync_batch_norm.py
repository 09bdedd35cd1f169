"""Tests the CUDA path of synchronized batch norms against torch's SyncBatchNorm function, both on a CPU with
replacements for the CUDA kernels that have the same schemas."""

import pytest
import torch
import torch.distributed as dist
from running import fork_functions
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules._functions import SyncBatchNorm

from resdet.backbones import sync_batch_norm as module
from resdet.backbones.sync_batch_norm import SyncBatchNorm2d

SHAPES = [(2, 3, 5, 8), (1, 3, 9, 4)]  # in each of the two processes
DIMS = (0, 2, 3)


def each(x: Tensor) -> Tensor:
    return x[:, None, None]


def stats(x, eps):
    return x.mean(DIMS), (x.var(DIMS, correction=0) + eps).rsqrt()


def gather_stats(x, means, invstds, running_mean, running_var, momentum, eps, counts):
    count, counts = counts.sum(), counts[:, None]
    mean = (means * counts).sum(0) / count
    var = ((invstds**-2 - eps + (means - mean) ** 2) * counts).sum(0) / count
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(var * count / (count - 1), momentum)
    return mean, (var + eps).rsqrt()


def normalize(x, weight, bias, mean, invstd, eps):
    return (x - each(mean)) * each(invstd * weight) + each(bias)


def backward_sums(grad, x, mean, invstd, weight, *needed):
    centered = (grad * (x - each(mean))).sum(DIMS)
    return grad.sum(DIMS), centered, centered * invstd, grad.sum(DIMS)


def backward(grad, x, mean, invstd, weight, sums, centered_sums, counts):
    count = counts.sum()
    own = grad - each(sums / count) - (x - each(mean)) * each(invstd**2 * centered_sums / count)
    return own * each(invstd * weight)


KERNELS = {
    "batch_norm_stats": stats,
    "batch_norm_gather_stats_with_counts": gather_stats,
    "batch_norm_elemt": normalize,
    "batch_norm_backward_reduce": backward_sums,
    "batch_norm_backward_elemt": backward,
}


def norm() -> SyncBatchNorm2d:
    made = SyncBatchNorm2d(3, eps=1e-3, momentum=0.3)
    made.weight.data, made.bias.data = torch.tensor([0.5, 2.0, -1.0]), torch.tensor([0.0, 1.0, -2.0])
    return made


def by_torch(made: SyncBatchNorm2d, x: Tensor) -> Tensor:
    given = made.weight, made.bias, made.running_mean, made.running_var, made.eps, made.momentum
    return SyncBatchNorm.apply(x, *given, dist.group.WORLD, 2)


def result(made: SyncBatchNorm2d, apply, rank: int, layout: torch.memory_format) -> dict[str, Tensor]:
    """Returns output, gradients and running statistics of one step."""
    rng = torch.Generator().manual_seed(rank)
    x = (1 + rank + torch.randn(SHAPES[rank], generator=rng)).contiguous(memory_format=layout).requires_grad_()
    y = apply(x)
    (y * torch.randn(y.shape, generator=rng)).sum().backward()
    return {
        "y": y.detach(),
        "to x": x.grad,
        "to weight": made.weight.grad,
        "to bias": made.bias.grad,
        "mean": made.running_mean,
        "var": made.running_var,
    }


def compare(rank: int, folder) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in KERNELS.items():
        library.impl(name, kernel, "CPU")
    for layout in (torch.contiguous_format, torch.channels_last):
        composed, fused, peer = norm(), norm(), norm()
        module.has_kernels = lambda x: False
        expected = result(composed, composed, rank, layout)
        module.has_kernels = lambda x: True
        found = result(fused, fused, rank, layout)
        for name, wanted in result(peer, lambda x: by_torch(peer, x), rank, layout).items():
            assert torch.equal(found[name], wanted), name
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)
        assert fused.num_batches_tracked == composed.num_batches_tracked == 1
        assert fused.state_dict().keys() == nn.SyncBatchNorm(3).state_dict().keys()
    dist.destroy_process_group()


def test_kernels_give_the_results_of_torch(tmp_path):
    """Compares kernels, torch and the composed formulas in two processes with inputs of different shapes."""
    fork_functions(compare, tmp_path)


@pytest.mark.parametrize("device, compiling, kernels", [("cpu", 0, False), ("cuda", 0, True), ("cuda", 1, False)])
def test_kernels_are_used_on_gpus_outside_compiled_code(device, compiling, kernels, monkeypatch):
    used = []
    monkeypatch.setattr(module, "process_group", lambda: "all")
    monkeypatch.setattr(module, "normalize_by_kernels", lambda norm, x, group: used.append((True, group)))
    monkeypatch.setattr(module, "normalize_by_collectives", lambda norm, x, group: used.append((False, group)))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: bool(compiling))
    with FakeTensorMode():
        made = SyncBatchNorm2d(3)
        made(torch.empty(2, 3, 4, 4, device=torch.device(device, 0)))
        made.eval()(torch.empty(2, 3, 4, 4))  # evaluation uses neither path
    assert used == [(kernels, "all")]
