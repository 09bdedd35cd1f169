"""R-CNN's warp: regions of a picture, each stretched to a square (R-CNN, appendix A; used in appendix C)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(picture: Tensor, boxes: Tensor, size: int, context: int, fill: Sequence[float]) -> Tensor:
    """Boxes [R, 4] of a picture [3, H, W] as [R, 3, size, size] float, all of them at once.

    The box itself comes to lie `context` pixels inside the square, whatever its proportions; around it is what is
    around it in the picture, and beyond the picture's border the color `fill`.
    """
    height, width = picture.shape[1:]
    boxes = boxes.float()
    margin = (boxes[:, 2:] - boxes[:, :2]) * (context / (size - 2 * context))
    corner, sides = boxes[:, :2] - margin, boxes[:, 2:] - boxes[:, :2] + 2 * margin
    centers = (torch.arange(size, device=boxes.device) + 0.5) / size
    x = (corner[:, :1] + sides[:, :1] * centers) * (2 / width) - 1
    y = (corner[:, 1:] + sides[:, 1:] * centers) * (2 / height) - 1
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    color = torch.tensor(fill, dtype=torch.float32, device=picture.device)[:, None, None]
    # One tall picture of all regions: the source is then read as it is, and not copied for each.
    tall = F.grid_sample((picture.float() - color)[None], grid.flatten(0, 1)[None], align_corners=False)[0]
    return tall.unflatten(1, (-1, size)).transpose(0, 1) + color
