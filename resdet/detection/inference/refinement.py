"""Box refinement and box voting (appendix B), and the voting of masks (MNC, 1512.04412)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.detection.inference.views import Scored
from resdet.ops import boxes as box_ops
from resdet.ops.masks import crop_masks


class Candidates(NamedTuple):
    """Boxes of one picture before the last suppression, by falling score."""

    boxes: Tensor  # [K, 4]
    scores: Tensor  # [K]
    labels: Tensor  # [K] int64


def refine(said: Scored, score: Callable[[Tensor], Scored]) -> Scored:
    """What is said of N regions, and then of the N boxes that they became, each as an object of its best class: 2 N."""
    best = said.scores.argmax(1)
    again = score(said.boxes[torch.arange(len(best), device=best.device), best])
    return Scored(*(torch.cat(both) for both in zip(said, again)))


def vote(boxes: Tensor, labels: Tensor, candidates: Candidates, iou: float) -> Tensor:
    """Boxes [n, 4] that survived suppression become means of all candidates of their class with at least this IoU,
    weighted by their scores: "bounding box voting" of Gidaris and Komodakis (2015), without a change of scores.
    """
    return box_ops.weighted_mean(candidates.boxes, voters(boxes, labels, candidates, iou) * candidates.scores)


def voters(boxes: Tensor, labels: Tensor, candidates: Candidates, iou: float) -> Tensor:
    """[n, K] bool: which candidates are of a survivor's class and overlap it so far; where none does, the closest."""
    overlaps = box_ops.iou(boxes, candidates.boxes).masked_fill(labels[:, None] != candidates.labels, -1.0)
    closest = F.pad(overlaps, (0, 1), value=-1.0).amax(1, keepdim=True)  # padded, since there may be no candidate
    return (overlaps >= closest.clamp(max=iou)) & (overlaps >= 0)


def vote_masks(boxes: Tensor, votes: Tensor, candidates: Candidates, masks: Tensor) -> Tensor:
    """[n, m, m]: in each of the boxes [n, 4] the mean of the masks [K, m, m] of those candidates that vote there
    [n, K], weighted by their scores.
    """
    survivor, voter = votes.nonzero(as_tuple=True)
    # Each vote in the frame of its survivor; masks of 0 to 255 are what objects have.
    framed = crop_masks(255 * masks[None], candidates.boxes[None], voter[None], boxes[None, survivor], masks.shape[-1])
    weights = candidates.scores[voter]
    total = masks.new_zeros(len(boxes), *masks.shape[1:]).index_add_(0, survivor, framed[0] * weights[:, None, None])
    sums = weights.new_zeros(len(boxes)).index_add_(0, survivor, weights)
    return total / sums.clamp(min=torch.finfo(sums.dtype).tiny)[:, None, None]
