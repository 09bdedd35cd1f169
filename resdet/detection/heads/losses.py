"""Losses with static shapes: masked sums divided by counts, on the device."""

from torch import Tensor
from torch.nn import functional as F

from resdet.ops import boxes as box_ops


def mean_over(terms: Tensor, counted: Tensor, count: Tensor) -> Tensor:
    """Returns the sum of the terms [...] where `counted`, divided by `count`.

    Other terms may be NaN and get a zero gradient; the values they are computed from must be finite, since backward
    multiplies zero by NaN.
    """
    return terms.where(counted, 0.0).sum() / count.clamp(min=1)


def objectness(logits: Tensor, positive: Tensor) -> Tensor:
    """Returns the binary cross entropy per element."""
    return F.binary_cross_entropy_with_logits(logits.float(), positive.float(), reduction="none")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross entropy [B, N] of logits [B, N, C + 1] and labels [B, N]."""
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


def smooth_l1(deltas: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Returns the smooth L1 loss [...] of deltas [..., 4], summed over the four parameters of each box."""
    return F.smooth_l1_loss(deltas.float(), targets, beta=beta, reduction="none").sum(-1)


def smooth_l1_box_loss(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: box_ops.Weights, beta: float) -> Tensor:
    """Returns the smooth L1 loss [...] of deltas [..., 4] against those that map boxes [..., 4] to targets [..., 4]."""
    return smooth_l1(deltas, box_ops.encode(boxes, targets, weights), beta)


def giou_box_loss(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: box_ops.Weights, beta: float) -> Tensor:
    """Returns 1 - GIoU [...] of the decoded boxes and the targets."""
    return 1 - box_ops.giou(box_ops.decode(boxes, deltas, weights), targets)


def diou_box_loss(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: box_ops.Weights, beta: float) -> Tensor:
    """Returns 1 - DIoU [...] of the decoded boxes and the targets."""
    return 1 - box_ops.diou(box_ops.decode(boxes, deltas, weights), targets)
