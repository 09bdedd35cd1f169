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


def smooth_l1_box_loss(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: Sequence[float], beta: float) -> Tensor:
    """Smooth L1 between deltas [..., 4] and those that turn boxes [..., 4] into targets [..., 4]: [...]."""
    return smooth_l1(deltas, box_ops.encode(boxes, targets, weights), beta)


def giou_box_loss(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: Sequence[float], beta: float) -> Tensor:
    """1 - GIoU of the decoded boxes and the targets: [...]."""
    return 1 - box_ops.giou(box_ops.decode(boxes, deltas, weights), targets)


def diou_box_loss(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: Sequence[float], beta: float) -> Tensor:
    """1 - DIoU of the decoded boxes and the targets: [...]."""
    return 1 - box_ops.diou(box_ops.decode(boxes, deltas, weights), targets)
