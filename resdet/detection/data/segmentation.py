"""Segmentation of an object: polygons, or a bitmap of part of the image.

Both are transformed losslessly, and cropped to a box for the mask head without drawing the whole image.
"""

from dataclasses import dataclass
from typing import Union

import numpy as np

Pair = tuple[float, float]
Segment = Union["Polygons", "Bitmap"]
SUPERSAMPLED = 4  # resolution factor for drawing polygons in a crop


@dataclass
class Polygons:
    """Union of areas enclosed by rings."""

    rings: list[np.ndarray]  # float [k, 2] each: x and y in pixels

    def move(self, scale: Pair, shift: Pair) -> "Polygons":
        """Moves points to x' = x·sx + tx, y' = y·sy + ty; a negative scale mirrors."""
        return Polygons([ring * np.asarray(scale, ring.dtype) + np.asarray(shift, ring.dtype) for ring in self.rings])

    def crop(self, box: np.ndarray, size: int) -> np.ndarray:
        """Crops the mask to `box` (xyxy) and resizes it: uint8 [size, size], 255 for full coverage of a cell."""
        import cv2

        fine = size * SUPERSAMPLED
        box = np.asarray(box, np.float64)
        low, high = (-fine, -fine), (2 * fine, 2 * fine)  # drawing time grows with the ring's length
        rings = [clip_ring((ring - box[:2]) * fine / (box[2:] - box[:2]), low, high) for ring in self.rings]
        rings = [ring for ring in rings if len(ring) >= 3]
        if not rings:
            return np.zeros((size, size), np.uint8)
        mask = np.ascontiguousarray(Polygons(rings).bitmap(fine, fine)) * np.uint8(255)
        return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)

    def bitmap(self, height: int, width: int) -> np.ndarray:
        """Draws uint8 [height, width] of 0 and 1, as in COCO's evaluation."""
        from pycocotools import mask

        flat = [ring.astype(np.float64).ravel().tolist() for ring in self.rings]
        return mask.decode(mask.merge(mask.frPyObjects(flat, height, width)))

    def bounds(self) -> np.ndarray:
        """Returns the bounding box, xyxy float32."""
        points = np.concatenate(self.rings)
        return np.concatenate([points.min(0), points.max(0)]).astype(np.float32)


@dataclass
class Bitmap:
    """An array of 0 and 1, placed in the image with its upper left corner at `corner`; its pixels have size `pixel`."""

    array: np.ndarray  # uint8 [h, w]
    corner: Pair = (0.0, 0.0)  # x, y
    pixel: Pair = (1.0, 1.0)  # width, height

    def move(self, scale: Pair, shift: Pair) -> "Bitmap":
        """Moves pixels to x' = x·sx + tx, y' = y·sy + ty without resampling; a negative scale mirrors."""
        array = self.array[:: -1 if scale[1] < 0 else 1, :: -1 if scale[0] < 0 else 1]
        ends = zip(self.corner, self.pixel, reversed(self.array.shape), scale, shift)
        x, y = (min(start * s, (start + size * count) * s) + t for start, size, count, s, t in ends)
        return Bitmap(array, (x, y), (self.pixel[0] * abs(scale[0]), self.pixel[1] * abs(scale[1])))

    def crop(self, box: np.ndarray, size: int) -> np.ndarray:
        """Crops the mask to `box` (xyxy) and resizes it: uint8 [size, size], 255 for full coverage of a cell."""
        columns = np.linspace(box[0], box[2], size + 1, dtype=np.float64)
        rows = np.linspace(box[1], box[3], size + 1, dtype=np.float64)
        return np.rint(255 * self._coverage(rows, columns)).astype(np.uint8)

    def bitmap(self, height: int, width: int) -> np.ndarray:
        """Draws uint8 [height, width] of 0 and 1: pixels with their center inside."""
        whole = np.zeros((height, width), np.uint8)
        (x, y), (pixel_width, pixel_height), (h, w) = self.corner, self.pixel, self.array.shape
        columns = np.floor((np.arange(width) + 0.5 - x) / pixel_width).astype(int)
        rows = np.floor((np.arange(height) + 0.5 - y) / pixel_height).astype(int)
        (left, right), (top, bottom) = np.searchsorted(columns, [0, w]), np.searchsorted(rows, [0, h])
        whole[top:bottom, left:right] = self.array[rows[top:bottom]][:, columns[left:right]]
        return whole

    def bounds(self) -> np.ndarray:
        """Returns the bounding box, xyxy float32; without area if empty."""
        columns, rows = (np.flatnonzero(self.array.any(axis)) for axis in (0, 1))
        inside = np.array([0, 0, 0, 0] if not len(rows) else [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        return (inside * np.tile(self.pixel, 2) + np.tile(self.corner, 2)).astype(np.float32)

    def _coverage(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Returns the covered share of each cell, float32 [R, C], between edges `rows` [R + 1] and `columns`
        [C + 1]."""
        (x, y), (width, height), (h, w) = self.corner, self.pixel, self.array.shape
        return _overlaps((rows - y) / height, h) @ self.array.astype(np.float32) @ _overlaps((columns - x) / width, w).T


def _overlaps(edges: np.ndarray, count: int) -> np.ndarray:
    """Returns the share of each cell between n + 1 ascending `edges` in [0, 1], [1, 2], …: float32 [n, count]."""
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(count)
    overlap = np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, None)
    return (overlap / (high - low)).astype(np.float32)


def clip_ring(ring: np.ndarray, low: Pair, high: Pair) -> np.ndarray:
    """Clips a ring [k, 2] to the rectangle with corners `low` and `high` (Sutherland-Hodgman)."""
    for axis, limit, sign in ((0, low[0], 1), (0, high[0], -1), (1, low[1], 1), (1, high[1], -1)):
        within = sign * (ring[:, axis] - limit) >= 0
        if within.all():
            continue
        crossing = within != np.roll(within, -1)
        start, end = ring[crossing], np.roll(ring, -1, 0)[crossing]
        cut = ring.copy()
        cut[crossing] += (end - start) * ((limit - start[:, axis]) / (end - start)[:, axis])[:, None]
        ring = np.stack([ring, cut], 1)[np.stack([within, crossing], 1)]
    return ring


def from_runs(runs: np.ndarray, height: int) -> Bitmap:
    """Creates a bitmap of the columns and rows that contain the object; modifies `runs`, from a valid RLE, in place."""
    if len(runs) < 2:
        return Bitmap(np.zeros((0, 0), np.uint8))
    before, after = int(runs[0]) // height, (int(runs[-1]) // height if len(runs) % 2 else 0)
    runs[0] -= before * height
    if len(runs) % 2:
        runs[-1] -= after * height
    array = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(-1, height).T
    rows = np.flatnonzero(array.any(1))
    if not len(rows):
        return Bitmap(np.zeros((0, 0), np.uint8))
    return Bitmap(np.ascontiguousarray(array[rows[0] : rows[-1] + 1]), (float(before), float(rows[0])))
