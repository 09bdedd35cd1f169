"""Masks brought from their boxes into the whole image, as probabilities and with static shapes."""

import torch
from torch import Tensor

from resdet.ops.masks import _bordered, _hats


def paste_probabilities(masks: Tensor, boxes: Tensor, height: int, width: int, whole_pixels: bool) -> Tensor:
    """Masks [B, D, m, m] over boxes [B, D, 4] -> [B, D, height, width]; above 0.5 is what `ops.masks.paste` draws.

    `whole_pixels` is torchvision's way, `paste_as_torchvision`.
    """
    spans = _bordered(boxes, masks.shape[-1])
    if whole_pixels:
        first, last = spans.trunc().split(2, -1)
        spans = torch.cat([first, torch.maximum(last, first) + 1], -1)
    columns = _hats(torch.arange(width, device=boxes.device), spans[..., 0::2], masks.shape[-1])
    rows = _hats(torch.arange(height, device=boxes.device), spans[..., 1::2], masks.shape[-1])
    return rows @ masks @ columns.mT
