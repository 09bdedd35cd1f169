"""Random sampling of anchors or proposals with a quota of positives, as a top-k over random keys."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(positive: Tensor, negative: Tensor, count: int, positives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples `count` of N candidates per image uniformly without replacement, with at most `positives` positives.

    positive, negative: [B, N] bool, disjoint; other candidates are not sampled. `positives` <= `count`. Returns indices
    [B, count], positive [B, count] and valid [B, count]: positives first, then negatives, then padding (not valid,
    index 0).
    """
    slots = torch.arange(count, device=positive.device)
    positive_count = positive.sum(1, keepdim=True).clamp(max=positives)
    negative_count = negative.sum(1, keepdim=True)
    is_positive = slots < positive_count
    valid = slots < positive_count + negative_count
    # Candidate-major keys: on the CPU, appended candidates (padding) do not change the sample.
    keys = torch.rand(positive.shape[::-1], device=positive.device).mT
    positives_first, negatives_first = _draw(keys, positive, count), _draw(keys, negative, count)
    ranks = (slots - positive_count).clamp(min=0)
    indices = torch.where(is_positive, positives_first, negatives_first.gather(1, ranks))
    return indices * valid, is_positive, valid


def _draw(keys: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Draws indices [B, count] in random order: candidates first, then others, then zeros if N < count."""
    keys = keys.masked_fill(~candidates, -1)
    among = min(count, candidates.shape[1])
    return F.pad(keys.topk(among).indices, (0, count - among))
