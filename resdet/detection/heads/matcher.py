"""Which object an anchor or a region stands for, in a whole batch at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from resdet.ops import boxes as box_ops
from resdet.structures import Targets

CROWD_COVERAGE = 0.5  # a box that lies so far inside a crowd is neither positive nor negative


class Matches(NamedTuple):
    """For N boxes of each image."""

    objects: Tensor  # [B, N] int64: the object of largest IoU
    positive: Tensor  # [B, N] bool
    negative: Tensor  # [B, N] bool


def match_anchors(
    anchors: Tensor, targets: Targets, usable: Tensor, positive_iou: float, negative_iou: float
) -> Matches:
    """For anchors [A, 4] (Faster R-CNN, section 3.1.2): also the best anchors of each object are positive.

    `usable` [B, A] are the anchors that may be learned from; an object's best ones are the best of these.
    """
    overlaps = torch.where(usable[:, None], overlap(anchors[None], targets), -1.0)
    best, objects = overlaps.max(1)
    best_of_object = overlaps.amax(2, keepdim=True)
    # Only an overlap makes an anchor the best one: an object outside the image has none.
    rescued = ((overlaps == best_of_object) & (best_of_object > 0)).any(1)
    positive = (best >= positive_iou) | rescued
    negative = (best < negative_iou) & ~positive & ~in_crowd(anchors[None], targets)
    return Matches(objects, positive, negative & usable)


def match_proposals(
    regions: Tensor, targets: Targets, usable: Tensor, positive_iou: float, negative_iou: tuple[float, float]
) -> Matches:
    """For regions [B, N, 4] (Fast R-CNN, section 2.3)."""
    best, objects = overlap(regions, targets).max(1)
    positive = best >= positive_iou
    # Without any object the best overlap is -1, and everything is background.
    low = negative_iou[0] if negative_iou[0] > 0 else -1.0
    background = (best >= low) & (best < min(negative_iou[1], positive_iou))
    return Matches(objects, positive & usable, background & ~in_crowd(regions, targets) & usable)


def overlap(boxes: Tensor, targets: Targets) -> Tensor:
    """IoU [B, G, N] of boxes [B or 1, N, 4] with each object, -1 for padding and crowds."""
    real = targets.valid & ~targets.crowd
    return torch.where(real[..., None], box_ops.iou(targets.boxes, boxes), -1.0)


def in_crowd(boxes: Tensor, targets: Targets) -> Tensor:
    """[B, N] whether a box lies in a crowd for the greater part."""
    crowds = (targets.valid & targets.crowd)[..., None, :]
    return (crowds & (box_ops.coverage(boxes, targets.boxes) > CROWD_COVERAGE)).any(2)


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Rows of values [B, N, …] by indices [B, K]: [B, K, …]."""
    shape = (*indices.shape, *values.shape[2:])
    return values.gather(1, indices.reshape(*indices.shape, *[1] * (values.dim() - 2)).expand(shape))
