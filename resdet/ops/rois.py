"""RoIs of all images in a batch as one list."""

from typing import NamedTuple

import torch
from torch import Tensor


class RoIs(NamedTuple):
    """RoIs on a feature map."""

    images: Tensor  # [n] int64: image of each RoI
    boxes: Tensor  # [n, 4]


def image_of_each(boxes: Tensor) -> Tensor:
    """Returns the image indices [B, N] of boxes [B, N, 4]."""
    batch, count, _ = boxes.shape  # len(boxes) would export a constant batch size
    return torch.arange(batch, device=boxes.device)[:, None].expand(batch, count)


def torchvision_rows(rois: RoIs, like: Tensor) -> Tensor:
    """Returns RoIs [n, 5] in torchvision's format: at least float32 (its kernels lack bfloat16), without NaN."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.cat([rois.images[:, None], rois.boxes.nan_to_num(0)], 1).to(dtype)
