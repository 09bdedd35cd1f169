"""A picture with its objects, which move together."""

from dataclasses import dataclass

import numpy as np

from resdet.detection.data.annotations import Objects
from resdet.detection.data.segmentation import Pair, Segment

ROUNDING = 0.5  # a border that takes off less, in pixels, has not cut an object


@dataclass
class Scene:
    """Boxes lie inside the picture and have an area; a segment may reach beyond its box, where it is not seen."""

    pixels: np.ndarray  # uint8 [h, w, 3]; evaluation's may be float32
    boxes: np.ndarray  # float32 [n, 4], xyxy
    labels: np.ndarray  # int64 [n]
    crowd: np.ndarray  # bool [n]
    segments: list[Segment | None]

    @classmethod
    def of(cls, pixels: np.ndarray, objects: Objects, scale: Pair) -> "Scene":
        """The objects of a picture that `scale` (across, down) has resized to these pixels."""
        scene = cls(pixels, objects.boxes, objects.labels, objects.crowd, list(objects.segments))
        return scene.moved(pixels, scale, (0, 0))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.pixels.shape[1], self.pixels.shape[0]

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: np.ndarray) -> "Scene":
        """The objects of these numbers, int [k], or where `keep`, bool [n], is true."""
        numbers = np.arange(len(self))[keep]
        segments = [self.segments[i] for i in numbers]
        return Scene(self.pixels, self.boxes[numbers], self.labels[numbers], self.crowd[numbers], segments)

    def moved(self, pixels: np.ndarray, scale: Pair, shift: Pair) -> "Scene":
        """The objects at x' = x·sx + tx, y' = y·sy + ty on other pixels; a negative scale mirrors.

        Boxes are clipped to the new picture, objects wholly outside of it dropped. Where the border has cut an object
        with a segment, its box becomes that of the part still seen.
        """
        corners = self.boxes.reshape(-1, 2, 2) * np.array(scale, np.float64) + np.array(shift, np.float64)
        boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
        whole = Scene(pixels, boxes, self.labels, self.crowd, self.segments)
        limits = np.tile(whole.size, 2)
        seen = whole.select(has_area(np.clip(boxes, 0, limits)))
        seen.segments = [segment and segment.move(scale, shift) for segment in seen.segments]
        clipped = np.clip(seen.boxes, 0, limits)
        for i in np.flatnonzero(np.abs(clipped - seen.boxes).max(1, initial=0) > ROUNDING):
            if seen.segments[i] is not None:
                clipped[i] = tightened(clipped[i], seen.segments[i])
        seen.boxes = clipped.astype(np.float32)
        return seen.select(has_area(seen.boxes))


def has_area(boxes: np.ndarray) -> np.ndarray:
    """bool [n]"""
    return ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).reshape(-1)


def drawn(segment: Segment, box: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    """The segment's pixels in a box: rows and columns of the picture that hold the box, uint8 0 or 1 of that shape."""
    rows, columns = whole_pixels(box)
    moved = segment.move((1, 1), (-columns.start, -rows.start))
    return rows, columns, moved.bitmap(rows.stop - rows.start, columns.stop - columns.start)


def whole_pixels(box: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of pixels that hold a box."""
    x1, y1 = (int(side) for side in np.floor(box[:2]))
    x2, y2 = (int(side) for side in np.ceil(box[2:]))
    return slice(y1, y2), slice(x1, x2)


def tightened(box: np.ndarray, segment: Segment) -> np.ndarray:
    """The part of the box in which the segment has pixels; without area where it has none."""
    rows, columns, bitmap = drawn(segment, box)
    return bounds_within(box, bitmap, columns.start, rows.start)


def bounds_within(box: np.ndarray, bitmap: np.ndarray, x: int, y: int) -> np.ndarray:
    """The part of the box that the ones of a bitmap with its corner at (x, y) span, where that is less by a pixel."""
    across, down = np.flatnonzero(bitmap.any(0)), np.flatnonzero(bitmap.any(1))
    if not len(across):
        return np.zeros(4)
    spanned = np.array([x + across[0], y + down[0], x + across[-1] + 1, y + down[-1] + 1])
    tight = np.concatenate([np.maximum(box[:2], spanned[:2]), np.minimum(box[2:], spanned[2:])])
    return np.where(np.abs(tight - box) >= 1, tight, box)
