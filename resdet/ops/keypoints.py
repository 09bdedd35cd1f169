"""Keypoints as positions in RoI heatmaps (Mask R-CNN, section 5), as in torchvision."""

import torch
from torch import Tensor
from torch.nn import functional as F


def heatmap_cells(keypoints: Tensor, rois: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Returns heatmap cells [..., K] int64, y · size + x, of keypoints [..., K, 3] (x, y, visibility) in RoIs [..., 4].

    The second tensor [..., K] is False, and the cell is 0, for keypoints that are invisible or outside their RoI; right
    and bottom edges belong to the last cells.
    """
    corner, end = rois[..., None, :2], rois[..., None, 2:]
    points, side = keypoints[..., :2], end - corner
    cells = ((points - corner) * (size / side.clamp(min=1e-6))).floor()
    cells = torch.where(points == end, size - 1.0, cells)
    inside = ((cells >= 0) & (cells < size) & (side > 0)).all(-1) & (keypoints[..., 2] > 0)
    x, y = torch.where(inside[..., None], cells, 0.0).long().unbind(-1)
    return y * size + x, inside


@torch.no_grad()
def locate(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """Locates keypoints [n, K, 3] (x, y, score) at the maxima of heatmaps [n, K, m, m], logits in boxes [n, 4].

    Each heatmap is resized to its box by bicubic interpolation, as in torchvision and detectron2; the score is the
    resized logit. The host reads the sizes and processes boxes one by one, so call it after detection, outside compiled
    code.
    """
    located = heatmaps.new_zeros((*heatmaps.shape[:2], 3), dtype=torch.float32)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    for keypoints, maps, corner, side, (width, height) in zip(
        located, heatmaps.float(), boxes[:, :2], sides, sides.ceil().int().tolist()
    ):
        scores, cells = maxima(bicubic_weights(height, maps) @ maps @ bicubic_weights(width, maps).mT)
        keypoints[:, :2] = (cells + 0.5) * (side / side.ceil()) + corner
        keypoints[:, 2] = scores
    return located


def bicubic_weights(length: int, maps: Tensor) -> Tensor:
    """Returns the matrix [length, m] of bicubic interpolation along an axis of maps [..., m].

    Interpolation is separable; two products take half the time of `F.interpolate`.
    """
    identity = torch.eye(maps.shape[-1], device=maps.device)
    return F.interpolate(identity[None, None], (length, maps.shape[-1]), mode="bicubic", align_corners=False)[0, 0]


def maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Returns values [K] and positions [K, 2] (x, y) of the maxima of maps [K, h, w], the first row-major in ties."""
    values, rows = maps.amax(2).max(1)
    columns = maps[torch.arange(len(maps), device=maps.device), rows].argmax(1)
    return values, torch.stack([columns, rows], 1)
