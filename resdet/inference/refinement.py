"""Box refinement and box voting (appendix B)."""

from typing import Callable, NamedTuple

import torch
from torch import Tensor

from resdet.inference.views import Scored
from resdet.ops import boxes as box_ops


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
    votes = (box_ops.iou(boxes, candidates.boxes) >= iou) & (labels[:, None] == candidates.labels)
    weights = votes * candidates.scores
    # A sum, and no matrix product: that may be of few digits on a GPU.
    return (weights[..., None] * candidates.boxes).sum(1) / weights.sum(1, keepdim=True)
