"""Greedy non-maximum suppression over a batch of images at once, within groups (classes, or pyramid levels).

One operator, `resdet::nms`, with static shapes: torchvision's kernel group by group on the CPU, where no offset between
groups costs precision; Triton's on CUDA; `nms_reference` in plain torch says what both must give.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from resdet.ops.boxes import iou
from resdet.optional import torchvision

Survivors = Callable[[Tensor, Tensor, Tensor, float], Tensor]


@torch.library.custom_op("resdet::nms", mutates_args=())
def nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """The `keep` best boxes of each image of which no better one of the same group covers more than `threshold` (IoU).

    boxes [B, N, 4], scores [B, N], groups [B, N] int64, valid [B, N] bool; what is not valid neither survives nor
    suppresses. Returns indices [B, keep] int64, by falling score (among equals the smaller index first), and kept
    [B, keep] bool, False where fewer survive: there the index is 0. There is no gradient.
    """
    return _best(_survivors, boxes, scores, groups, valid, threshold, keep)


@nms.register_kernel("cuda")
def _(boxes, scores, groups, valid, threshold, keep):
    from resdet.ops.kernels.nms import survivors

    with torch.cuda.device(boxes.device):
        return _best(survivors, boxes, scores, groups, valid, threshold, keep)


@nms.register_fake
def _(boxes, scores, groups, valid, threshold, keep):
    shape = (scores.shape[0], keep)
    return scores.new_empty(shape, dtype=torch.int64), scores.new_empty(shape, dtype=torch.bool)


def nms_reference(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """`nms` in plain torch, one box after another over an N by N matrix; for tests."""
    return _best(_survivors_reference, boxes, scores, groups, valid, threshold, keep)


def _best(
    survivors: Survivors, boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """Sorts by score, asks which survive, and takes the first `keep` of these."""
    batch, count = scores.shape
    if count == 0:
        return scores.new_zeros(batch, keep, dtype=torch.int64), scores.new_zeros(batch, keep, dtype=torch.bool)
    order = scores.argsort(dim=1, descending=True, stable=True)
    boxes = boxes.float().gather(1, order[..., None].expand(-1, -1, 4))
    survives = survivors(boxes, groups.gather(1, order), valid.gather(1, order), threshold)
    ranks = torch.arange(1, keep + 1, device=scores.device).repeat(batch, 1)
    positions = torch.searchsorted(survives.cumsum(1), ranks)  # of the first survivor, the second, …
    kept = positions < count
    return order.gather(1, positions.clamp(max=count - 1)) * kept, kept


def _survivors(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """[B, N] bool, for boxes that are sorted by falling score."""
    kernel = torchvision().ops.nms
    # The kernel would compare the IoU, a float32, with a double: 0.3 of one kind is more than 0.3 of the other.
    threshold = torch.tensor(threshold, dtype=torch.float32).item()
    falling = -torch.arange(boxes.shape[1], dtype=torch.float32, device=boxes.device)
    survives = torch.zeros_like(valid)
    for image in range(len(valid)):
        members = valid[image].nonzero()[:, 0]
        by_group = groups[image, members].sort(stable=True)
        members = members[by_group.indices]
        sizes = by_group.values.unique_consecutive(return_counts=True)[1].tolist()
        parts = zip(members.split(sizes), boxes[image, members].split(sizes))
        kept = [part[kernel(alone, falling[: len(part)], threshold)] for part, alone in parts]
        survives[image, torch.cat([members[:0], *kept])] = True
    return survives


def _survivors_reference(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    suppresses = (iou(boxes, boxes) > threshold) & (groups[:, :, None] == groups[:, None, :])
    survives = valid.clone()
    for i in range(boxes.shape[1]):
        survives[:, i + 1 :] &= ~(survives[:, i, None] & suppresses[:, i, i + 1 :])
    return survives
