"""Masks between an object's own box, a region and the image (Mask R-CNN, section 3).

An object's mask is kept as m x m cells stretched over its box. Both ways are separable: a matrix for the rows, and one
for the columns.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2**26  # pixels that a device has in float32 at a time


class Part(NamedTuple):
    """Some masks as they lie in the image, which is empty beside them."""

    masks: Tensor  # [k, h, w] bool
    left: int
    top: int


def crop_masks(masks: Tensor, boxes: Tensor, matched: Tensor, regions: Tensor, size: int) -> Tensor:
    """What a mask head shall say of each region: the part of the matched object's mask that lies in it.

    masks [B, G, m, m] uint8, 0 to 255, each stretched over its own box; boxes [B, G, 4]; matched [B, M] int64, the
    object of each region; regions [B, M, 4]. Returns [B, M, size, size] float32, 0 to 1: the average over each of the
    size x size cells, 0 outside the object's box, and 0 everywhere where box or region has no area.
    """
    m = masks.shape[-1]
    boxes = boxes.gather(1, matched[..., None].expand(-1, -1, 4))
    masks = masks.gather(1, matched[..., None, None].expand(-1, -1, m, m))
    columns = _averages(boxes[..., 0], boxes[..., 2], regions[..., 0], regions[..., 2], m, size)
    rows = _averages(boxes[..., 1], boxes[..., 3], regions[..., 1], regions[..., 3], m, size)
    return (_mapped(rows, masks, columns) / 255).clamp(max=1)


def _averages(start: Tensor, end: Tensor, region_start: Tensor, region_end: Tensor, m: int, size: int) -> Tensor:
    """[..., size, m]: which part of each of the region's cells each of the mask's m cells fills, along one axis."""
    side = end - start
    unit = m / side.clamp(min=1e-6) * (side > 0)
    steps = torch.arange(size + 1, device=start.device) / size
    edges = region_start[..., None] + (region_end - region_start)[..., None] * steps
    edges = (edges - start[..., None]) * unit[..., None]  # [..., size + 1], in the mask's cells
    low, high = edges[..., :-1, None], edges[..., 1:, None]
    cells = torch.arange(m, device=start.device)
    shared = (torch.minimum(high, cells + 1) - torch.maximum(low, cells)).clamp(min=0)
    return shared / (high - low).clamp(min=1e-6)


def paste(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5) -> Iterator[Part]:
    """Masks [n, m, m] float, 0 to 1, over boxes [n, 4] of an image, part by part: each pixel's center is looked up
    between the centers of the mask's cells."""
    return _paste(masks, _bordered(boxes, masks.shape[-1]), height, width, threshold)


def paste_as_torchvision(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5
) -> Iterator[Part]:
    """`paste` as that library does, pixel for pixel: boxes are rounded to whole pixels and drawn one too large."""
    return _paste(masks, _in_whole_pixels(boxes, masks.shape[-1]), height, width, threshold)


def paste_probabilities(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Masks [B, D, m, m] over boxes [B, D, 4] -> [B, D, height, width], with static shapes: above 0.5 is what `paste`
    draws."""
    return _probabilities(masks, _bordered(boxes, masks.shape[-1]), height, width)


def paste_probabilities_as_torchvision(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """`paste_probabilities` of what `paste_as_torchvision` draws."""
    return _probabilities(masks, _in_whole_pixels(boxes, masks.shape[-1]), height, width)


def _probabilities(masks: Tensor, spans: Tensor, height: int, width: int) -> Tensor:
    columns = _hats(torch.arange(width, device=spans.device), spans[..., 0::2], masks.shape[-1])
    rows = _hats(torch.arange(height, device=spans.device), spans[..., 1::2], masks.shape[-1])
    return rows @ masks @ columns.mT


def _paste(masks: Tensor, spans: Tensor, height: int, width: int, threshold: float) -> Iterator[Part]:
    draw = _paste_areas if masks.device.type == "cpu" else _paste_whole
    return draw(masks, spans, height, width, threshold)


def _paste_areas(masks: Tensor, spans: Tensor, height: int, width: int, threshold: float) -> Iterator[Part]:
    """One mask after another, each within its own area."""
    areas = torch.cat([spans[:, :2].floor(), spans[:, 2:].ceil()], 1).clamp(min=0)
    areas = torch.minimum(areas, torch.tensor([width, height, width, height])).long()
    for mask, span, (left, top, right, bottom) in zip(masks, spans, areas.tolist()):
        columns = _hats(torch.arange(left, right), span[0::2], len(mask))
        rows = _hats(torch.arange(top, bottom), span[1::2], len(mask))
        yield Part((_mapped(rows, mask, columns) > threshold)[None], left, top)


def _paste_whole(masks: Tensor, spans: Tensor, height: int, width: int, threshold: float) -> Iterator[Part]:
    """As many masks at once as CHUNK allows, over the whole image, so that no area is waited for."""
    x, y = torch.arange(width, device=masks.device), torch.arange(height, device=masks.device)
    together = max(1, CHUNK // (height * width))
    for some, span in zip(masks.split(together), spans.split(together)):
        columns, rows = _hats(x, span[:, 0::2], masks.shape[-1]), _hats(y, span[:, 1::2], masks.shape[-1])
        yield Part(_mapped(rows, some, columns) > threshold, 0, 0)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """IoU [n] of pairs of masks [n, H, W] bool; two empty masks are alike."""
    shared, union = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return (shared + (union == 0)) / union.clamp(min=1)


def _bordered(boxes: Tensor, m: int) -> Tensor:
    """Boxes [..., 4] of masks with a border of one empty cell."""
    low, high = boxes.float().split(2, -1)
    center, half = (high + low) * 0.5, (high - low) * 0.5 * ((m + 2) / m)
    return torch.cat([center - half, center + half], -1)


def _in_whole_pixels(boxes: Tensor, m: int) -> Tensor:
    """The same as torchvision has them."""
    first, last = _bordered(boxes, m).trunc().split(2, -1)
    return torch.cat([first, torch.maximum(last, first) + 1], -1)


def _hats(pixels: Tensor, spans: Tensor, m: int) -> Tensor:
    """[..., length, m]: the weight of each of the mask's cells for each of the pixels [length], along one axis.

    `spans` [..., 2]: where the mask with its border, so m + 2 cells, starts and ends; off the mask all weights are 0.
    """
    start, end = spans[..., :1], spans[..., 1:]
    positions = (pixels + 0.5 - start) * ((m + 2) / (end - start).clamp(min=1e-6)) - 1.5
    return (1 - (positions[..., None] - torch.arange(m, device=spans.device)).abs()).clamp(min=0)


def _mapped(rows: Tensor, masks: Tensor, columns: Tensor) -> Tensor:
    """[..., a, m] rows, [..., m, m] masks, [..., b, m] columns -> [..., a, b] float32, under autocast too."""
    with torch.autocast(masks.device.type, enabled=False):
        return rows @ masks.float() @ columns.mT
