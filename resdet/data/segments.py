"""An object's outline: polygons, or a bitmap of the part of the picture where it lies.

Both move with the picture without loss, and are stretched over a box for the mask head without drawing the whole
picture first.
"""

import math
from array import array
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

Pair = tuple[float, float]
Segment = Union["Polygons", "Bitmap"]
SUPERSAMPLED = 4  # a polygon's crop is drawn at so many times its resolution
BITS, MORE, SIGN, ZERO = 5, 32, 16, 48  # of the characters of a compressed RLE
LONGEST = 6  # characters of a number below 2**29
NEITHER = "a segmentation that is neither polygons nor RLE"


@dataclass
class Polygons:
    """What any of the rings encloses."""

    rings: list[np.ndarray]  # float [k, 2] each: x and y in pixels

    def move(self, scale: Pair, shift: Pair) -> "Polygons":
        """x' = x·sx + tx, y' = y·sy + ty; a negative scale mirrors."""
        return Polygons([ring * np.asarray(scale, ring.dtype) + np.asarray(shift, ring.dtype) for ring in self.rings])

    def crop(self, box: np.ndarray, size: int) -> np.ndarray:
        """The mask stretched over `box` (xyxy): uint8 [size, size], 255 where it covers the whole pixel."""
        import cv2

        fine = size * SUPERSAMPLED
        box = np.asarray(box, np.float64)
        rings = [_near((ring - box[:2]) * fine / (box[2:] - box[:2]), fine) for ring in self.rings]
        rings = [ring for ring in rings if len(ring) >= 3]
        if not rings:
            return np.zeros((size, size), np.uint8)
        drawn = np.ascontiguousarray(Polygons(rings).bitmap(fine, fine)) * np.uint8(255)
        return cv2.resize(drawn, (size, size), interpolation=cv2.INTER_AREA)

    def bitmap(self, height: int, width: int) -> np.ndarray:
        """uint8 [height, width] of 0 and 1: the pixels that COCO's evaluation counts as the object's."""
        from pycocotools import mask

        flat = [ring.astype(np.float64).ravel().tolist() for ring in self.rings]
        return mask.decode(mask.merge(mask.frPyObjects(flat, height, width)))

    def bounds(self) -> np.ndarray:
        """The smallest box that holds it, xyxy float32."""
        points = np.concatenate(self.rings)
        return np.concatenate([points.min(0), points.max(0)]).astype(np.float32)


@dataclass
class Bitmap:
    """An array of 0 and 1 that lies in the picture with its upper left corner at `corner`, its pixels `pixel` large."""

    array: np.ndarray  # uint8 [h, w]
    corner: Pair = (0.0, 0.0)  # x, y
    pixel: Pair = (1.0, 1.0)  # width, height

    def move(self, scale: Pair, shift: Pair) -> "Bitmap":
        """x' = x·sx + tx, y' = y·sy + ty; a negative scale mirrors. The array is not resampled."""
        array = self.array[:: -1 if scale[1] < 0 else 1, :: -1 if scale[0] < 0 else 1]
        ends = zip(self.corner, self.pixel, reversed(self.array.shape), scale, shift)
        corner = tuple(min(start * s, (start + size * count) * s) + t for start, size, count, s, t in ends)
        return Bitmap(array, corner, tuple(size * abs(s) for size, s in zip(self.pixel, scale)))

    def crop(self, box: np.ndarray, size: int) -> np.ndarray:
        """The mask stretched over `box` (xyxy): uint8 [size, size], 255 where it covers the whole pixel."""
        columns = np.linspace(box[0], box[2], size + 1, dtype=np.float64)
        rows = np.linspace(box[1], box[3], size + 1, dtype=np.float64)
        return np.rint(255 * self._covered(rows, columns)).astype(np.uint8)

    def bitmap(self, height: int, width: int) -> np.ndarray:
        """uint8 [height, width] of 0 and 1: the pixels whose centres it covers."""
        whole = np.zeros((height, width), np.uint8)
        (x, y), (pixel_width, pixel_height), (h, w) = self.corner, self.pixel, self.array.shape
        columns = np.floor((np.arange(width) + 0.5 - x) / pixel_width).astype(int)
        rows = np.floor((np.arange(height) + 0.5 - y) / pixel_height).astype(int)
        (left, right), (top, bottom) = np.searchsorted(columns, [0, w]), np.searchsorted(rows, [0, h])
        whole[top:bottom, left:right] = self.array[rows[top:bottom]][:, columns[left:right]]
        return whole

    def bounds(self) -> np.ndarray:
        """The smallest box that holds it, xyxy float32; of no area where it is empty."""
        columns, rows = (np.flatnonzero(self.array.any(axis)) for axis in (0, 1))
        inside = np.array([0, 0, 0, 0] if not len(rows) else [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        return (inside * np.tile(self.pixel, 2) + np.tile(self.corner, 2)).astype(np.float32)

    def _covered(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """float32 [R, C]: what share of each cell between `rows` [R + 1] and `columns` [C + 1] it covers."""
        (x, y), (width, height), (h, w) = self.corner, self.pixel, self.array.shape
        return _shares((rows - y) / height, h) @ self.array.astype(np.float32) @ _shares((columns - x) / width, w).T


def _shares(edges: np.ndarray, count: int) -> np.ndarray:
    """float32 [n, count]: how much of the cell between two of the n + 1 rising `edges` lies in [0, 1], [1, 2], …"""
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(count)
    overlap = np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, None)
    return (overlap / (high - low)).astype(np.float32)


def _near(ring: np.ndarray, size: int) -> np.ndarray:
    """The part of a ring near the square from 0 to `size` (Sutherland and Hodgman), as drawing takes time by length."""
    for axis, limit, sign in ((0, -size, 1), (0, 2 * size, -1), (1, -size, 1), (1, 2 * size, -1)):
        within = sign * (ring[:, axis] - limit) >= 0
        if within.all():
            continue
        crossing = within != np.roll(within, -1)
        start, end = ring[crossing], np.roll(ring, -1, 0)[crossing]
        cut = ring.copy()
        cut[crossing] += (end - start) * ((limit - start[:, axis]) / (end - start)[:, axis])[:, None]
        ring = np.stack([ring, cut], 1)[np.stack([within, crossing], 1)]
    return ring


def from_coco(segmentation: Any, height: int, width: int) -> Segment | None:
    """What a COCO file says of an object in a picture of this size: polygons, or RLE with numbers or compressed.

    None where it says nothing, by an empty list or none. A ValueError tells in a few words what is wrong with it.
    """
    if segmentation is None:
        return None
    if isinstance(segmentation, dict):
        return from_runs(runs_of(segmentation, height, width), height)
    rings = rings_of(segmentation)
    return Polygons([np.array(ring, np.float64).reshape(-1, 2) for ring in rings]) if rings else None


def rings_of(polygons: Any) -> list[list[float]]:
    """COCO's lists x1, y1, x2, y2, … of three points at least; those of fewer have no area and are left out."""
    if not isinstance(polygons, list):
        raise ValueError(NEITHER)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise ValueError(NEITHER)
        try:
            finite = math.isfinite(sum(polygon))  # sooner than looking at each
        except (TypeError, OverflowError):
            raise ValueError(NEITHER) from None
        if not finite:
            raise ValueError("a segmentation with NaN or infinite coordinates")
    rings = [polygon for polygon in polygons if len(polygon) >= 6]
    if polygons and not rings:
        raise ValueError("polygons of fewer than three points")
    return rings


def runs_of(rle: dict[str, Any], height: int, width: int) -> np.ndarray:
    """The lengths of the runs, the first outside of the object, down the columns one after another: int64 [k]."""
    if rle.get("size") != [height, width]:
        raise ValueError("an RLE of another size than its image")
    counts = rle.get("counts")
    if not isinstance(counts, (list, str, bytes)):
        raise ValueError("an RLE without counts")
    try:
        runs = np.array(counts, np.int64) if isinstance(counts, list) else _decompress(counts)
    except (ValueError, TypeError, OverflowError):
        runs = np.array([-1])
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("a damaged RLE")
    return runs


def from_runs(runs: np.ndarray, height: int) -> Bitmap:
    """The bitmap of as few columns and rows as hold the object; `runs` are as `runs_of` gives them."""
    if len(runs) < 2:
        return Bitmap(np.zeros((0, 0), np.uint8))
    before, after = int(runs[0]) // height, (int(runs[-1]) // height if len(runs) % 2 else 0)
    runs = runs.copy()
    runs[0] -= before * height
    if len(runs) % 2:
        runs[-1] -= after * height
    array = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(-1, height).T
    rows = np.flatnonzero(array.any(1))
    if not len(rows):
        return Bitmap(np.zeros((0, 0), np.uint8))
    return Bitmap(np.ascontiguousarray(array[rows[0] : rows[-1] + 1]), (float(before), float(rows[0])))


def _decompress(counts: str | bytes) -> np.ndarray:
    """The runs of COCO's compressed RLE: six bits a character, numbers from the fourth on as a difference."""
    text = counts.encode("ascii") if isinstance(counts, str) else counts
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - ZERO
    last = np.flatnonzero(codes & MORE == 0)
    if not len(codes) or codes.min() < 0 or codes.max() >= 64 or codes[-1] & MORE:
        raise ValueError
    first = np.append(0, last[:-1] + 1)
    lengths = last - first + 1
    if lengths.max() > LONGEST:
        raise ValueError
    place = np.arange(len(codes)) - np.repeat(first, lengths)
    runs = np.add.reduceat((codes & (MORE - 1)) << BITS * place, first)
    runs -= np.where(codes[last] & SIGN, 1 << BITS * lengths, 0)
    for start in (1, 2):  # each is the difference from the one before the last
        runs[start::2] = runs[start::2].cumsum()
    return runs


class SegmentColumns:
    """The segments of n objects, one after another, in five arrays: points of rings of objects, and runs of objects.

    Points are kept as float32 and come back in thousandths of a pixel, which restores the decimals of COCO's files:
    drawing rounds them, and a last bit that differs would move edges.
    """

    names = ("points", "rings", "parts", "runs", "strips")

    def __init__(self) -> None:
        self.points = array("f")
        self.rings, self.parts, self.strips = array("q", [0]), array("q", [0]), array("q", [0])
        self.runs = array("I")

    def add(self, segmentation: Any, height: int, width: int) -> None:
        """The next object's, as a COCO file says it; a ValueError, as of `from_coco`, leaves everything as it was."""
        if isinstance(segmentation, dict):
            self.runs.frombytes(runs_of(segmentation, height, width).astype(np.uint32).tobytes())
        elif segmentation is not None:
            for ring in rings_of(segmentation):
                self.points.extend(ring)
                self.rings.append(len(self.points) // 2)
        self.parts.append(len(self.rings) - 1)
        self.strips.append(len(self.runs))

    def arrays(self) -> dict[str, np.ndarray]:
        columns = {name: np.array(getattr(self, name)) for name in self.names}
        return columns | {"points": columns["points"].reshape(-1, 2)}

    @staticmethod
    def read(arrays: dict[str, np.ndarray], i: int, height: int) -> Segment | None:
        """The segment of object i, in a picture of this height."""
        start, end = arrays["strips"][i : i + 2]
        if start < end:
            return from_runs(arrays["runs"][start:end].astype(np.int64), height)
        start, end = arrays["parts"][i : i + 2]
        if start == end:
            return None
        first, *ends = arrays["rings"][start : end + 1].tolist()
        points = np.round(arrays["points"][first : ends[-1]].astype(np.float64), 3)
        return Polygons([points[a - first : b - first] for a, b in zip([first, *ends], ends)])
