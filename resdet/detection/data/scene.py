"""An image and its objects, transformed together."""

from dataclasses import dataclass

import numpy as np

from resdet.detection.data.annotations import Objects
from resdet.detection.data.keypoints import Keypoints
from resdet.detection.data.segmentation import Pair, Segment

ROUNDING = 0.5  # pixels; clipping by less than this is not a cut


@dataclass
class Scene:
    """An image with objects. Boxes lie inside the image and have an area; segments are invisible outside their
    boxes."""

    pixels: np.ndarray  # uint8 [h, w, 3]; may be float32 in evaluation
    boxes: np.ndarray  # float32 [n, 4], xyxy
    labels: np.ndarray  # int64 [n]
    crowd: np.ndarray  # bool [n]
    segments: list[Segment | None]
    keypoints: Keypoints | None = None  # None: no keypoints in the data

    @classmethod
    def of(cls, pixels: np.ndarray, objects: Objects, scale: Pair) -> "Scene":
        """Creates a scene from resized pixels and objects in the original size; `scale` (x, y): resize factor."""
        scene = cls(pixels, objects.boxes, objects.labels, objects.crowd, list(objects.segments), objects.keypoints)
        return scene.moved(pixels, scale, (0, 0))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.pixels.shape[1], self.pixels.shape[0]

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: np.ndarray) -> "Scene":
        """Selects objects by indices, int [k], or by a mask, bool [n]."""
        indices = np.arange(len(self))[keep]
        segments = [self.segments[i] for i in indices]
        keypoints = self.keypoints and self.keypoints.select(indices)
        return Scene(self.pixels, self.boxes[indices], self.labels[indices], self.crowd[indices], segments, keypoints)

    def moved(self, pixels: np.ndarray, scale: Pair, shift: Pair) -> "Scene":
        """Moves objects to x' = x·sx + tx, y' = y·sy + ty on new pixels; a negative scale mirrors.

        Boxes are clipped to the new image; objects outside are dropped. If the border cuts an object with a segment,
        its box is tightened to the visible part. Keypoints outside become invisible.
        """
        corners = self.boxes.reshape(-1, 2, 2) * np.array(scale, np.float64) + np.array(shift, np.float64)
        boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
        keypoints = self.keypoints and self.keypoints.moved(scale, shift, (pixels.shape[1], pixels.shape[0]))
        whole = Scene(pixels, boxes, self.labels, self.crowd, self.segments, keypoints)
        limits = np.tile(whole.size, 2)
        visible = whole.select(has_area(np.clip(boxes, 0, limits)))
        visible.segments = [segment and segment.move(scale, shift) for segment in visible.segments]
        clipped = np.clip(visible.boxes, 0, limits)
        for i in np.flatnonzero(np.abs(clipped - visible.boxes).max(1, initial=0) > ROUNDING):
            segment = visible.segments[i]
            if segment is not None:
                clipped[i] = tighten(clipped[i], segment)
        visible.boxes = clipped.astype(np.float32)
        return visible.select(has_area(visible.boxes))


def has_area(boxes: np.ndarray) -> np.ndarray:
    """Returns whether each box has an area, bool [n]."""
    return ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).reshape(-1)


def rasterize(segment: Segment, box: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    """Draws a segment within a box: the image rows and columns that contain the box, and their uint8 mask, 0 or 1."""
    rows, columns = whole_pixels(box)
    moved = segment.move((1, 1), (-columns.start, -rows.start))
    return rows, columns, moved.bitmap(rows.stop - rows.start, columns.stop - columns.start)


def whole_pixels(box: np.ndarray) -> tuple[slice, slice]:
    """Returns the rows and columns of pixels that contain a box."""
    x1, y1 = (int(side) for side in np.floor(box[:2]))
    x2, y2 = (int(side) for side in np.ceil(box[2:]))
    return slice(y1, y2), slice(x1, x2)


def tighten(box: np.ndarray, segment: Segment) -> np.ndarray:
    """Returns the box around the segment's pixels within the box; without area if there are none."""
    rows, columns, bitmap = rasterize(segment, box)
    return bounds_within(box, bitmap, columns.start, rows.start)


def bounds_within(box: np.ndarray, bitmap: np.ndarray, x: int, y: int) -> np.ndarray:
    """Tightens the sides of a box, by a pixel or more, to the foreground of a bitmap with its corner at (x, y)."""
    columns, rows = np.flatnonzero(bitmap.any(0)), np.flatnonzero(bitmap.any(1))
    if not len(columns):
        return np.zeros(4)
    bounds = np.array([x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1])
    tight = np.concatenate([np.maximum(box[:2], bounds[:2]), np.minimum(box[2:], bounds[2:])])
    return np.where(np.abs(tight - box) >= 1, tight, box)
