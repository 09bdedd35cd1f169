"""Which anchors or regions a step learns from: a random choice with a quota, as a top-k over random keys."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(positive: Tensor, negative: Tensor, count: int, positives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draws `count` of each image's N candidates, uniformly and without replacement, at most `positives` positive ones.

    positive, negative: [B, N] bool, never both; what is neither is not drawn. `positives` <= `count`. Returns indices
    [B, count], positive [B, count] and valid [B, count]: the positive ones come first, negatives fill up, and where
    these are too few the rest is not valid, with index 0.
    """
    slots = torch.arange(count, device=positive.device)
    found = positive.sum(1, keepdim=True).clamp(max=positives)
    available = negative.sum(1, keepdim=True)
    is_positive = slots < found
    valid = slots < found + available
    # By candidate first: what is appended to them, as padding is, does not change what is drawn on the CPU.
    keys = torch.rand(positive.shape[::-1], device=positive.device).mT
    drawn_positive, drawn_negative = _draw(keys, positive, count), _draw(keys, negative, count)
    indices = torch.where(is_positive, drawn_positive, drawn_negative.gather(1, (slots - found).clamp(min=0)))
    return indices * valid, is_positive, valid


def _draw(keys: Tensor, candidates: Tensor, count: int) -> Tensor:
    """[B, count] indices in random order: the candidates first, then others, then zeros where N is less."""
    keys = keys.masked_fill(~candidates, -1)
    among = min(count, candidates.shape[1])
    return F.pad(keys.topk(among).indices, (0, count - among))
