"""Mask resampling between object box, RoI and image (Mask R-CNN, section 3).

A mask is stored as m x m cells stretched over the object's box. Resampling is separable, with one matrix for the rows
and one for the columns.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2**26  # float32 pixels pasted on a device at a time
Extend = Callable[[Tensor, int], Tensor]  # `with_border`, in exact or torchvision's coordinates


class Part(NamedTuple):
    """A window of the image with k masks, which are empty outside the window."""

    masks: Tensor  # [k, h, w] bool
    left: int
    top: int


def crop_masks(masks: Tensor, boxes: Tensor, matched: Tensor, rois: Tensor, size: int) -> Tensor:
    """Computes mask targets: the matched object's mask, cropped to each RoI.

    masks [B, G, m, m] uint8, 0 to 255, each stretched over its box; boxes [B, G, 4]; matched [B, M] int64, the object
    index of each RoI; rois [B, M, 4]. Returns [B, M, size, size] float32, 0 to 1: the average over each of the
    size x size cells; 0 outside the object's box, and everywhere if box or RoI has no area.
    """
    m = masks.shape[-1]
    boxes = boxes.gather(1, matched[..., None].expand(-1, -1, 4))
    masks = masks.gather(1, matched[..., None, None].expand(-1, -1, m, m))
    columns = _average_weights(boxes[..., 0], boxes[..., 2], rois[..., 0], rois[..., 2], m, size)
    rows = _average_weights(boxes[..., 1], boxes[..., 3], rois[..., 1], rois[..., 3], m, size)
    return (_resample(rows, masks, columns) / 255).clamp(max=1)


def _average_weights(start: Tensor, end: Tensor, roi_start: Tensor, roi_end: Tensor, m: int, size: int) -> Tensor:
    """Returns the share of each RoI cell covered by each of m mask cells, along one axis: [..., size, m]."""
    side = end - start
    unit = m / side.clamp(min=1e-6) * (side > 0)
    steps = torch.arange(size + 1, device=start.device, dtype=torch.float32) / size
    edges = roi_start[..., None] + (roi_end - roi_start)[..., None] * steps
    edges = (edges - start[..., None]) * unit[..., None]  # [..., size + 1], in mask cells
    low, high = edges[..., :-1, None], edges[..., 1:, None]
    cells = torch.arange(m, device=start.device)
    shared = (torch.minimum(high, cells + 1) - torch.maximum(low, cells)).clamp(min=0)
    return shared / (high - low).clamp(min=1e-6)


def with_border(boxes: Tensor, m: int) -> Tensor:
    """Extends boxes [..., 4] of m x m masks by a border of one empty mask cell."""
    low, high = boxes.float().split(2, -1)
    center, half = (high + low) * 0.5, (high - low) * 0.5 * ((m + 2) / m)
    return torch.cat([center - half, center + half], -1)


def with_border_as_torchvision(boxes: Tensor, m: int) -> Tensor:
    """As `with_border`, with torchvision's rounding: whole pixels, one too large."""
    first, last = with_border(boxes, m).trunc().split(2, -1)
    return torch.cat([first, torch.maximum(last, first) + 1], -1)


def paste(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5, extend: Extend = with_border
) -> Iterator[Part]:
    """Pastes masks [n, m, m] float, 0 to 1, into boxes [n, 4] of an image, by bilinear interpolation between cell
    centers at pixel centers; `with_border_as_torchvision` gives torchvision's output, pixel for pixel."""
    paste_masks = _paste_windows if masks.device.type == "cpu" else _paste_whole
    return paste_masks(masks, boxes, height, width, threshold, extend)


def paste_probabilities(masks: Tensor, boxes: Tensor, height: int, width: int, extend: Extend = with_border) -> Tensor:
    """Pastes masks [..., n, m, m] into boxes [..., n, 4], with static shapes: [..., n, height, width]; `paste` returns
    the pixels above its threshold."""
    spans = extend(boxes, masks.shape[-1])
    columns = _bilinear_weights(torch.arange(width, device=spans.device), spans[..., 0::2], masks.shape[-1])
    rows = _bilinear_weights(torch.arange(height, device=spans.device), spans[..., 1::2], masks.shape[-1])
    return rows @ masks @ columns.mT


def _paste_windows(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float, extend: Extend
) -> Iterator[Part]:
    """Pastes one mask at a time, into a separate window."""
    spans = extend(boxes, masks.shape[-1])
    windows = torch.cat([spans[:, :2].floor(), spans[:, 2:].ceil()], 1).clamp(min=0)
    windows = torch.minimum(windows, torch.tensor([width, height, width, height])).long()
    for mask, span, (left, top, right, bottom) in zip(masks, spans, windows.tolist()):
        columns = _bilinear_weights(torch.arange(left, right), span[0::2], len(mask))
        rows = _bilinear_weights(torch.arange(top, bottom), span[1::2], len(mask))
        yield Part((_resample(rows, mask, columns) > threshold)[None], left, top)


def _paste_whole(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float, extend: Extend
) -> Iterator[Part]:
    """Pastes as many masks at a time as CHUNK allows, over the whole image; windows would require a host sync."""
    count = max(1, CHUNK // (height * width))
    for some, places in zip(masks.float().split(count), boxes.split(count)):
        with torch.autocast(masks.device.type, enabled=False):
            probabilities = paste_probabilities(some, places, height, width, extend)
        yield Part(probabilities > threshold, 0, 0)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU [n] of pairs of masks [n, H, W] bool; 1 for two empty masks."""
    shared, union = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return (shared + (union == 0)) / union.clamp(min=1)


def _bilinear_weights(pixels: Tensor, spans: Tensor, m: int) -> Tensor:
    """Returns the weight of each mask cell for each of the pixels [length], along one axis: [..., length, m].

    `spans` [..., 2]: start and end of the mask with its border (m + 2 cells); weights are 0 outside the mask.
    """
    start, end = spans[..., :1], spans[..., 1:]
    positions = (pixels + 0.5 - start) * ((m + 2) / (end - start).clamp(min=1e-6)) - 1.5
    return (1 - (positions[..., None] - torch.arange(m, device=spans.device)).abs()).clamp(min=0)


def _resample(rows: Tensor, masks: Tensor, columns: Tensor) -> Tensor:
    """Resamples masks [..., m, m] by rows [..., a, m] and columns [..., b, m] in float32, also under autocast."""
    with torch.autocast(masks.device.type, enabled=False):
        return rows @ masks.float() @ columns.mT
