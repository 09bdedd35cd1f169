"""Box refinement and box voting (appendix B), and mask voting (MNC, 1512.04412)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.detection.inference.views import Scored
from resdet.ops import boxes as box_ops
from resdet.ops.masks import crop_masks


class Candidates(NamedTuple):
    """Boxes of an image before the final NMS, by descending score."""

    boxes: Tensor  # [K, 4]
    scores: Tensor  # [K]
    labels: Tensor  # [K] int64


def refine(scored: Scored, classify: Callable[[Tensor], Scored]) -> Scored:
    """Classifies the boxes regressed for the best classes of N scored RoIs and appends them: 2 N."""
    best = scored.scores.argmax(1)
    refined = classify(scored.boxes[torch.arange(len(best), device=best.device), best])
    return Scored(*(torch.cat(both) for both in zip(scored, refined)))


def vote(boxes: Tensor, labels: Tensor, candidates: Candidates, iou: float) -> Tensor:
    """Replaces boxes [n, 4] after NMS by the score-weighted mean of candidates of their class with at least this IoU:
    "bounding box voting" of Gidaris and Komodakis (2015), with unchanged scores.
    """
    return box_ops.weighted_mean(candidates.boxes, voters(boxes, labels, candidates, iou) * candidates.scores)


def voters(boxes: Tensor, labels: Tensor, candidates: Candidates, iou: float) -> Tensor:
    """Returns [n, K] bool: candidates of a box's class with at least this IoU, or else the closest ones."""
    overlaps = box_ops.iou(boxes, candidates.boxes).masked_fill(labels[:, None] != candidates.labels, -1.0)
    closest = F.pad(overlaps, (0, 1), value=-1.0).amax(1, keepdim=True)  # padded, since K may be 0
    return (overlaps >= closest.clamp(max=iou)) & (overlaps >= 0)


def vote_masks(boxes: Tensor, votes: Tensor, candidates: Candidates, masks: Tensor) -> Tensor:
    """Returns the score-weighted mean, in each of the boxes [n, 4], of the masks [K, m, m] of the candidates that vote
    for it, `votes` [n, K]: [n, m, m].
    """
    box, voter = votes.nonzero(as_tuple=True)
    # Resamples each voting mask to its box; crop_masks takes masks from 0 to 255.
    cropped = crop_masks(255 * masks[None], candidates.boxes[None], voter[None], boxes[None, box], masks.shape[-1])
    weights = candidates.scores[voter]
    total = masks.new_zeros(len(boxes), *masks.shape[1:]).index_add_(0, box, cropped[0] * weights[:, None, None])
    sums = weights.new_zeros(len(boxes)).index_add_(0, box, weights)
    return total / sums.clamp(min=torch.finfo(sums.dtype).tiny)[:, None, None]
