"""Boxes: areas, overlaps, and the R-CNN parameterization (Faster R-CNN, eq. 2), elementwise or for all pairs."""

import math

import torch
from torch import Tensor

Weights = tuple[float, float, float, float]

MAX_LOG_RATIO = math.log(1000 / 16)  # upper limit of decoded dw and dh; prevents overflow in exp
MIN_SIDE = 1e-3  # pixels; lower limit of sides in `encode`
EPSILON = 1e-7  # added to denominators in the losses, as in torchvision


def area(boxes: Tensor) -> Tensor:
    """Returns areas [...] of boxes [..., 4]; 0 where a side is not positive."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU [..., N, M] of all pairs of [..., N, 4] and [..., M, 4]; 0 where neither box has an area."""
    return iou_and_coverage(a, b)[0]


def iou_and_coverage(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns `iou`, and the intersection over the area of b [..., N, M]: COCO's overlap with crowds a."""
    shared = _intersection(a.unsqueeze(-2), b.unsqueeze(-3))
    areas = area(b).unsqueeze(-2)
    union = area(a).unsqueeze(-1) + areas - shared
    tiny = torch.finfo(union.dtype).tiny
    return shared / union.clamp(min=tiny), shared / areas.clamp(min=tiny)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clips boxes [B, N, 4] or [B, N, K, 4] to their images; `sizes` [B, 2]: height and width."""
    limits = sizes.flip(-1).repeat(1, 2).to(boxes.dtype)  # [B, 4]: width, height, width, height
    limits = limits.view(sizes.shape[0], *[1] * (boxes.dim() - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limits)


def weighted_mean(boxes: Tensor, weights: Tensor) -> Tensor:
    """Averages [..., K, 4] by weights [..., K]: [..., 4]; a matrix product would use TF32 on some GPUs."""
    return (weights[..., None] * boxes).sum(-2) / weights.sum(-1, keepdim=True)


def encode(anchors: Tensor, boxes: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Computes regression targets [..., 4] from anchors [..., 4] to boxes [..., 4], multiplied by `weights`."""
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
    """Applies deltas [..., 4] to anchors [..., 4]; returns boxes [..., 4] in float32. Inverse of `encode`."""
    x, y, width, height = _centered(anchors.float())
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.float().unbind(-1), weights))
    x, y = x + dx * width, y + dy * height
    half_width = 0.5 * width * dw.clamp(max=MAX_LOG_RATIO).exp()
    half_height = 0.5 * height * dh.clamp(max=MAX_LOG_RATIO).exp()
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Returns the generalized IoU (Rezatofighi et al., 2019) of pairs: [..., 4], [..., 4] -> [...], -1 to 1."""
    shared, union = _shared_and_union(a, b)
    hull = area(_hull(a, b))
    return shared / (union + EPSILON) - (hull - union) / (hull + EPSILON)


def diou(a: Tensor, b: Tensor) -> Tensor:
    """Returns the distance IoU (Zheng et al., 2020) of pairs: [..., 4], [..., 4] -> [...], -1 to 1."""
    shared, union = _shared_and_union(a, b)
    x1, y1, x2, y2 = _hull(a, b).unbind(-1)
    diagonal = (x2 - x1).square() + (y2 - y1).square() + EPSILON
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).div(2).square().sum(-1)
    return shared / (union + EPSILON) - apart / diagonal


def _centered(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns center x, center y, width, height."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    """Returns the intersection area of pairs, with broadcasting."""
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def _shared_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    shared = _intersection(a, b)
    return shared, area(a) + area(b) - shared


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Returns the smallest box that contains both."""
    return torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1)
