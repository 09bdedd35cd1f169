"""Converts shapes of labeling tools to polygons and RLE."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from resdet.detection.data.rle import as_rle
from resdet.images.decode import MAX_PIXELS

CORNERS = 32  # of a polygon for a circle or an ellipse; its area is 0.6% too small
Rle = dict[str, Any]


def turned_box(box: Sequence[float], degrees: float) -> list[float]:
    """Returns the corners x1, y1, x2, y2 … of a box (xyxy) rotated clockwise around its center."""
    x1, y1, x2, y2 = box
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    return _turned(corners, ((x1 + x2) / 2, (y1 + y2) / 2), degrees)


def ellipse(center: Sequence[float], radii: Sequence[float], degrees: float = 0) -> list[float]:
    (x, y), (rx, ry) = center, radii
    angles = [2 * math.pi * k / CORNERS for k in range(CORNERS)]
    return _turned([(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles], (x, y), degrees)


def rle_of(mask: np.ndarray) -> Rle:
    """Returns COCO's compressed RLE of a mask [H, W]."""
    from pycocotools import mask as masks

    rle = masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return rle | {"counts": rle["counts"].decode()}


def mask_of(rle: Rle, size: tuple[int, int]) -> np.ndarray:
    """Decodes a COCO RLE in an image of `size` (width, height) to a mask, uint8 [H, W]."""
    from pycocotools import mask as masks

    return masks.decode(as_rle(rle, *reversed(size)))


def rle_in_box(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> Rle | None:
    """Returns the RLE, in an image of `size` (width, height), of a mask [h, w] with its upper left corner at `corner`;
    None if it is empty or exceeds the image."""
    (left, top), (height, width) = corner, mask.shape
    fits = left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]
    if not fits or size[0] * size[1] >= MAX_PIXELS or not mask.any():
        return None
    canvas = np.zeros((size[1], size[0]), np.uint8)
    canvas[top : top + height, left : left + width] = mask > 0
    return rle_of(canvas)


def rle_of_runs(
    runs: Sequence[float], corner: tuple[float, float], sides: tuple[float, float], size: tuple[int, int]
) -> Rle | None:
    """As `rle_in_box`, for a mask of `sides` (width, height) given as row-major runs, starting with background; also
    None unless all are whole numbers that fit."""
    if not all(number >= 0 and number == number // 1 for number in (*runs, *corner, *sides)):
        return None
    left, top, width, height = map(int, (*corner, *sides))
    if sum(runs) != width * height or width > size[0] or height > size[1] or size[0] * size[1] >= MAX_PIXELS:
        return None
    values = np.repeat(np.arange(len(runs)) % 2, [int(run) for run in runs])
    return rle_in_box(values.reshape(height, width), (left, top), size)


def _turned(points: Sequence[tuple[float, float]], center: tuple[float, float], degrees: float) -> list[float]:
    (x0, y0), angle = center, math.radians(degrees) if math.isfinite(degrees) else math.nan
    cos, sin = math.cos(angle), math.sin(angle)
    turned = ((x0 + (x - x0) * cos - (y - y0) * sin, y0 + (x - x0) * sin + (y - y0) * cos) for x, y in points)
    return [side for point in turned for side in point]
