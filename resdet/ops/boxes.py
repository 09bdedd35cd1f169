"""Boxes: areas, overlaps, and R-CNN's parameters (Faster R-CNN, eq. 2), elementwise or all against all."""

import math

import torch
from torch import Tensor

Weights = tuple[float, float, float, float]

MAX_LOG_RATIO = math.log(1000 / 16)  # a box grows at most this much, so that exp never overflows
MIN_SIDE = 1e-3  # pixels; thinner boxes are encoded as if they were this wide
EPSILON = 1e-7  # torchvision's, in the losses' quotients


def area(boxes: Tensor) -> Tensor:
    """[..., 4] -> [...]; 0 where a side is not positive."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """[..., N, 4], [..., M, 4] -> [..., N, M]: all against all; 0 where neither has an area."""
    shared = _intersection(a.unsqueeze(-2), b.unsqueeze(-3))
    union = area(a).unsqueeze(-1) + area(b).unsqueeze(-2) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def coverage(a: Tensor, b: Tensor) -> Tensor:
    """[..., N, 4], [..., M, 4] -> [..., N, M]: the part of each a that lies in each b; COCO's overlap with crowds."""
    shared = _intersection(a.unsqueeze(-2), b.unsqueeze(-3))
    whole = area(a).unsqueeze(-1)
    return shared / whole.clamp(min=torch.finfo(whole.dtype).tiny)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes [B, N, 4] or [B, N, K, 4] inside their images, whose height and width `sizes` [B, 2] tells."""
    limits = sizes.flip(-1).repeat(1, 2).to(boxes.dtype)  # [B, 4]: width, height, width, height
    limits = limits.view(sizes.shape[0], *[1] * (boxes.dim() - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limits)


def weighted_mean(boxes: Tensor, weights: Tensor) -> Tensor:
    """Of [..., K, 4] by [..., K] -> [..., 4]. A sum, and no matrix product: that may be of few digits on a GPU."""
    return (weights[..., None] * boxes).sum(-2) / weights.sum(-1, keepdim=True)


def encode(anchors: Tensor, boxes: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """What a regressor must say to turn anchors [..., 4] into boxes [..., 4]: [..., 4], times `weights`."""
    x, y, width, height = _centered(anchors)
    box_x, box_y, box_width, box_height = _centered(boxes)
    width, height, box_width, box_height = (side.clamp(min=MIN_SIDE) for side in (width, height, box_width, box_height))
    return torch.stack(
        [
            weights[0] * (box_x - x) / width,
            weights[1] * (box_y - y) / height,
            weights[2] * torch.log(box_width / width),
            weights[3] * torch.log(box_height / height),
        ],
        -1,
    )


def decode(anchors: Tensor, deltas: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """The boxes [..., 4], float32, that a regressor means by deltas [..., 4] on anchors [..., 4]; undoes `encode`."""
    x, y, width, height = _centered(anchors.float())
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.float().unbind(-1), weights))
    x, y = x + dx * width, y + dy * height
    half_width = 0.5 * width * dw.clamp(max=MAX_LOG_RATIO).exp()
    half_height = 0.5 * height * dh.clamp(max=MAX_LOG_RATIO).exp()
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized IoU (Rezatofighi et al., 2019) of pairs: [..., 4], [..., 4] -> [...], -1 to 1."""
    shared, union = _shared_and_union(a, b)
    hull = area(_hull(a, b))
    return shared / (union + EPSILON) - (hull - union) / (hull + EPSILON)


def diou(a: Tensor, b: Tensor) -> Tensor:
    """Distance IoU (Zheng et al., 2020) of pairs: [..., 4], [..., 4] -> [...], -1 to 1."""
    shared, union = _shared_and_union(a, b)
    x1, y1, x2, y2 = _hull(a, b).unbind(-1)
    diagonal = (x2 - x1).square() + (y2 - y1).square() + EPSILON
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).div(2).square().sum(-1)
    return shared / (union + EPSILON) - apart / diagonal


def _centered(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Center x and y, width, height."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    """The area that pairs share; broadcasts."""
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def _shared_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    shared = _intersection(a, b)
    return shared, area(a) + area(b) - shared


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """The smallest box around both."""
    return torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1)
