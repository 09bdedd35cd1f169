"""Matches anchors and proposals to objects, for a whole batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from resdet.ops import boxes as box_ops
from resdet.structures import Targets

CROWD_COVERAGE = 0.5  # a box with more than this share inside a crowd is never negative


class Matches(NamedTuple):
    """Matches for N boxes per image."""

    objects: Tensor  # [B, N] int64: the object with the largest IoU
    positive: Tensor  # [B, N] bool
    negative: Tensor  # [B, N] bool


def match_anchors(
    anchors: Tensor, targets: Targets, usable: Tensor, positive_iou: float, negative_iou: float
) -> Matches:
    """Matches anchors [A, 4] (Faster R-CNN, section 3.1.2); each object's best anchors are positive at any IoU.

    `usable` [B, A]: anchors that may be sampled; each object's best anchors are chosen among these.
    """
    overlaps, in_crowd = overlap(anchors[None], targets)
    overlaps = torch.where(usable[:, None], overlaps, -1.0)
    best, objects = overlaps.max(1)
    best_of_object = overlaps.amax(2, keepdim=True)
    # An object that overlaps no anchor, such as one outside the image, has no best anchor.
    low_quality = ((overlaps == best_of_object) & (best_of_object > 0)).any(1)
    positive = (best >= positive_iou) | low_quality
    negative = (best < negative_iou) & ~positive & ~in_crowd
    return Matches(objects, positive, negative & usable)


def match_proposals(
    proposals: Tensor, targets: Targets, usable: Tensor, positive_iou: float, negative_iou: tuple[float, float]
) -> Matches:
    """Matches proposals [B, N, 4] (Fast R-CNN, section 2.3); `usable` [B, N]: those that may be sampled."""
    overlaps, in_crowd = overlap(proposals, targets)
    best, objects = overlaps.max(1)
    positive = best >= positive_iou
    # Without objects, the best overlap is -1 and all boxes are background.
    low = negative_iou[0] if negative_iou[0] > 0 else -1.0
    background = (best >= low) & (best < min(negative_iou[1], positive_iou))
    return Matches(objects, positive & usable, background & ~in_crowd & usable)


def overlap(boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Returns the IoU [B, G, N] of objects with boxes [B or 1, N, 4], -1 for padding and crowds, and whether most of a
    box lies inside a crowd [B, N]."""
    ious, coverage = box_ops.iou_and_coverage(targets.boxes, boxes)
    objects, crowds = targets.valid & ~targets.crowd, targets.valid & targets.crowd
    return torch.where(objects[..., None], ious, -1.0), (crowds[..., None] & (coverage > CROWD_COVERAGE)).any(1)


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Gathers rows of values [B, N, …] by indices [B, K]: [B, K, …]."""
    shape = (*indices.shape, *values.shape[2:])
    return values.gather(1, indices.reshape(*indices.shape, *[1] * (values.dim() - 2)).expand(shape))
