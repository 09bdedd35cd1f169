"""R-CNN's warp: regions of an image, each stretched to a square (R-CNN, appendix A; used in appendix C)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(image: Tensor, boxes: Tensor, size: int, context: int, fill: Sequence[float]) -> Tensor:
    """Warps boxes [R, 4] of an image [3, H, W] to float [R, 3, size, size].

    The box lies `context` pixels inside the square for any aspect ratio; the margin shows the surrounding pixels of
    the image, and `fill` beyond the image border.
    """
    height, width = image.shape[1:]
    boxes = boxes.float()
    margin = (boxes[:, 2:] - boxes[:, :2]) * (context / (size - 2 * context))
    corner, sides = boxes[:, :2] - margin, boxes[:, 2:] - boxes[:, :2] + 2 * margin
    centers = (torch.arange(size, device=boxes.device) + 0.5) / size
    x = (corner[:, :1] + sides[:, :1] * centers) * (2 / width) - 1
    y = (corner[:, 1:] + sides[:, 1:] * centers) * (2 / height) - 1
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    color = torch.tensor(fill, dtype=torch.float32, device=image.device)[:, None, None]
    # Sample all regions as one tall image, so that the source is not copied for each.
    tall = F.grid_sample((image.float() - color)[None], grid.flatten(0, 1)[None], align_corners=False)[0]
    return tall.unflatten(1, (-1, size)).transpose(0, 1) + color
