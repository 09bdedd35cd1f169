"""Greedy non-maximum suppression for a batch of images, within groups (classes or pyramid levels).

The operator `resdet::nms` has static shapes. On CPUs it runs torchvision's kernel per group, since coordinate offsets
between groups would reduce precision; on CUDA it is a Triton kernel.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.ops.operators import define
from resdet.optional import torchvision_operators

Survivors = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """Keeps at most `keep` boxes per image; better boxes of the same group with IoU > `threshold` suppress a box.

    boxes [B, N, 4], scores [B, N], groups [B, N] int64, valid [B, N] bool; invalid boxes neither survive nor suppress.
    Returns indices [B, keep] int64 by descending score (ties by ascending index), and kept [B, keep] bool, False for
    padding, with index 0. No gradient.
    """
    indices, kept = nms_op(boxes, scores, groups, valid, threshold, keep)
    return indices, kept


def nms_by_level(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], valid: Sequence[Tensor], threshold: float, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Applies `nms` within each level; returns the best `keep` boxes of all levels [B, keep, 4], their scores, and
    kept.

    boxes [B, N_l, 4], scores and valid [B, N_l] of each level. Levels are treated as images, which divides the number
    of comparisons by nearly the number of levels and runs suppression of the levels in parallel.
    """
    most, levels = max(level.shape[1] for level in scores), len(scores)
    joined, ranks, usable = (_padded(field, most).flatten(0, 1) for field in (boxes, scores, valid))
    one_group = torch.zeros_like(ranks, dtype=torch.int64)
    indices, kept = nms(joined, ranks, one_group, usable, threshold, min(keep, most))
    joined, ranks = joined.gather(1, indices[..., None].expand(-1, -1, 4)), ranks.gather(1, indices)
    joined, ranks, kept = (field.unflatten(0, (-1, levels)).flatten(1, 2) for field in (joined, ranks, kept))
    order = torch.where(kept, ranks, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :keep]
    missing = keep - order.shape[1]
    return (
        F.pad(joined.gather(1, order[..., None].expand(-1, -1, 4)), (0, 0, 0, missing)),
        F.pad(ranks.gather(1, order), (0, missing)),
        F.pad(kept.gather(1, order), (0, missing)),
    )


def _padded(levels: Sequence[Tensor], count: int) -> Tensor:
    """Stacks [B, N_l, …] of each level to [B, L, count, …], padded with zeros."""
    missing = [count - level.shape[1] for level in levels]
    return torch.stack([F.pad(x, (0, 0) * (x.dim() - 2) + (0, more)) for x, more in zip(levels, missing)], 1)


def _best(
    survivors: Survivors, boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """Sorts by score, computes the survivors, and keeps the first `keep`."""
    batch, count = scores.shape
    if count == 0:
        return scores.new_zeros(batch, keep, dtype=torch.int64), scores.new_zeros(batch, keep, dtype=torch.bool)
    order = scores.argsort(dim=1, descending=True, stable=True)
    boxes = boxes.float().gather(1, order[..., None].expand(-1, -1, 4))
    survives = survivors(boxes, groups.gather(1, order), valid.gather(1, order), threshold)
    ranks = torch.arange(1, keep + 1, device=scores.device).repeat(batch, 1)
    positions = torch.searchsorted(survives.cumsum(1), ranks)  # positions of the first survivor, the second, …
    kept = positions < count
    return order.gather(1, positions.clamp(max=count - 1)) * kept, kept


def _survivors(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Returns the survivors, [B, N] bool, of boxes sorted by descending score."""
    kernel = torchvision_operators().nms
    # The kernel compares a float32 IoU with a double threshold; rounding it to float32 keeps boxes with equal IoU.
    threshold = torch.tensor(threshold, dtype=torch.float32).item()
    descending = -torch.arange(boxes.shape[1], dtype=torch.float32, device=boxes.device)
    survives = torch.zeros_like(valid)
    for image in range(len(valid)):
        members = valid[image].nonzero()[:, 0]
        by_group = groups[image, members].sort(stable=True)
        members = members[by_group.indices]
        sizes = by_group.values.unique_consecutive(return_counts=True)[1].tolist()
        parts = zip(members.split(sizes), boxes[image, members].split(sizes))
        kept = [part[kernel(group, descending[: len(part)], threshold)] for part, group in parts]
        survives[image, torch.cat([members[:0], *kept])] = True
    return survives


def _on_cpu(boxes, scores, groups, valid, threshold, keep):
    return _best(_survivors, boxes, scores, groups, valid, threshold, keep)


def _on_cuda(boxes, scores, groups, valid, threshold, keep):
    from resdet.ops.kernels.nms import survivors

    with torch.cuda.device(boxes.device):
        return _best(survivors, boxes, scores, groups, valid, threshold, keep)


def _fake(boxes, scores, groups, valid, threshold, keep):
    shape = (scores.shape[0], keep)
    return scores.new_empty(shape, dtype=torch.int64), scores.new_empty(shape, dtype=torch.bool)


nms_op = define(
    "nms(Tensor boxes, Tensor scores, Tensor groups, Tensor valid, float threshold, SymInt keep) -> (Tensor, Tensor)",
    cpu=_on_cpu,
    cuda=_on_cuda,
    fake=_fake,
)
