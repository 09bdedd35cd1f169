"""Sums of fixed numbers of terms, those that do not count weighted by zero, over counts taken on the device."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from resdet.ops import boxes as box_ops


def mean_over(terms: Tensor, counted: Tensor, count: Tensor) -> Tensor:
    """The sum of the counted terms [...] over a count.

    Terms that do not count may be anything, even NaN, and have a gradient of zero. What they are computed from has to
    be finite: on the way back to it zero times NaN is NaN.
    """
    return terms.where(counted, 0.0).sum() / count.clamp(min=1)


def objectness(logits: Tensor, positive: Tensor) -> Tensor:
    """Binary cross entropy, term by term."""
    return F.binary_cross_entropy_with_logits(logits.float(), positive.float(), reduction="none")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits [B, N, C + 1] and labels [B, N], term by term."""
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


def smooth_l1(deltas: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """Summed over the four parameters of each box [..., 4]."""
    return F.smooth_l1_loss(deltas.float(), wanted, beta=beta, reduction="none").sum(-1)


def box_loss(kind: str, deltas: Tensor, boxes: Tensor, wanted: Tensor, weights: Sequence[float], beta: float) -> Tensor:
    """[...] of deltas [..., 4] that should turn boxes into the wanted ones: smooth L1, or 1 - GIoU, 1 - DIoU."""
    if kind == "smooth_l1":
        return smooth_l1(deltas, box_ops.encode(boxes, wanted, weights), beta)
    measure = box_ops.giou if kind == "giou" else box_ops.diou
    return 1 - measure(box_ops.decode(boxes, deltas, weights), wanted)
