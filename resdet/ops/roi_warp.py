"""RoI warping (Multi-task Network Cascades, 1512.04412): pooling that is differentiable in the boxes."""

import torch
from torch import Tensor
from torch.nn import functional as F


def roi_warp(features: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
    """Pools features [B, C, h, w] in boxes [B, N, 4] in image pixels: [B·N, C, size, size].

    `scale`: pixels of the map per image pixel. Each box is sampled bilinearly, with border padding, at the centers of
    2·size x 2·size equal cells, followed by 2 x 2 max pooling. Features and boxes receive gradients.
    """
    if boxes.shape[1] == 0:  # the operators below reject empty inputs
        return features.new_zeros(0, features.shape[1], size, size)
    exact = torch.promote_types(features.dtype, torch.float32)  # coordinates require at least float32
    height, width = features.shape[2:]
    centers = (torch.arange(2 * size, device=boxes.device, dtype=exact) + 0.5) / (2 * size)
    x1, y1, x2, y2 = (side[..., None].to(exact) for side in boxes.unbind(-1))
    # -1 and 1 are the outer edges of the map.
    x = (x1 + (x2 - x1) * centers) * (2 * scale / width) - 1  # [B, N, 2·size]
    y = (y1 + (y2 - y1) * centers) * (2 * scale / height) - 1
    x, y = torch.broadcast_tensors(x[..., None, :], y[..., :, None])
    grid = torch.stack([x, y], -1).flatten(1, 2)  # boxes stacked vertically: [B, N · 2·size, 2·size, 2]
    sampled = F.grid_sample(features.to(exact), grid, padding_mode="border", align_corners=False)
    pooled = F.max_pool2d(sampled, 2).unflatten(2, (boxes.shape[1], size))  # [B, C, N, size, size]
    return pooled.transpose(1, 2).flatten(0, 1).to(features.dtype)
