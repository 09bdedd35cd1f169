"""Findings about masks: empty, not matching their box, with holes, or with many parts."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from resdet.detection.check.finding import Finding
from resdet.detection.check.split import Split
from resdet.detection.data.pairwise_iou import iou_xyxy
from resdet.detection.data.scene import has_area
from resdet.detection.data.segmentation import Bitmap, Polygons
from resdet.detection.data.segmentation_columns import SegmentColumns

AGREEING = 0.7  # IoU of a mask's bounding box and the annotated box
BEYOND, FAR = 2.0, 0.1  # pixels, and share of a side, by which a mask may exceed its box
MANY_PARTS = 10
MANY_HOLES = 3  # in a bitmap; a ring-shaped object has one
NO_AREA = 1e-3  # pixels


def check_masks(split: Split) -> list[Finding]:
    rows = split.usable()
    sizes = split.sizes[split.owners[rows]] if len(rows) else np.zeros((0, 2), np.int64)
    segmentations = [split.annotations.entries[row].get("segmentation") for row in rows.tolist()]
    arrays, problems = SegmentColumns.pack(segmentations, sizes)
    findings = [
        split.of_object("mask_invalid", row, f"annotation {split.annotation_name(row)} has {problem}")
        for row, problem in zip(rows.tolist(), problems)
        if problem
    ]
    polygons, bitmaps = np.diff(arrays["parts"]) > 0, np.diff(arrays["strips"]) > 0
    masked = polygons | bitmaps
    sound = np.array([problem is None for problem in problems], bool)
    if masked.any():
        missing = rows[~masked & sound & ~split.crowd[rows]].tolist()
        name = split.annotations.name
        findings += [split.of_object("mask_missing", row, f"annotation {name(row)} has no mask") for row in missing]
    chosen = np.flatnonzero(masked & ~split.crowd[rows])
    segments = (SegmentColumns.read(arrays, i, int(sizes[i, 1])) for i in chosen.tolist())
    shapes = [_measure(segment, bitmap) for segment, bitmap in zip(segments, bitmaps[chosen].tolist())]
    return [*findings, *_of_shapes(split, rows[chosen], shapes, bitmaps[chosen])]


class Shape(NamedTuple):
    """Measurements of a mask."""

    bounds: np.ndarray  # float [4], xyxy
    area: float
    parts: int
    holes: int  # for polygons, rings inside another one


def _measure(segment: Any, bitmap: bool) -> Shape:
    if bitmap:
        return Shape(segment.bounds(), float(segment.array.sum()), *_topology_of_bitmap(segment))
    return Shape(segment.bounds(), sum(map(_area, segment.rings)), *_topology_of_polygons(segment))


def _of_shapes(split: Split, rows: np.ndarray, shapes: Sequence[Shape], bitmaps: np.ndarray) -> Iterator[Finding]:
    """Yields findings about the masks of the annotations in these rows."""
    limits = np.tile(split.sizes[split.owners[rows]] if len(rows) else np.zeros((0, 2)), 2)
    bounds = np.clip(np.array([shape.bounds for shape in shapes], np.float64).reshape(-1, 4), 0, limits)
    boxes = split.corners()[rows]
    areas = np.array([shape.area for shape in shapes], np.float64)
    empty = ~has_area(bounds) | (areas < NO_AREA)
    overlaps = iou_xyxy(bounds, boxes)
    beyond = np.concatenate([boxes[:, :2] - bounds[:, :2], bounds[:, 2:] - boxes[:, 2:]], 1)
    far = np.any(beyond > np.maximum(BEYOND, FAR * np.tile(boxes[:, 2:] - boxes[:, :2], 2)), axis=1)
    many = np.where(bitmaps, MANY_HOLES, 1)
    holes, parts = (np.array([getattr(shape, name) for shape in shapes], int) for name in ("holes", "parts"))
    doubtful = empty | (overlaps < AGREEING) | far | (holes >= many) | (parts > MANY_PARTS)
    for i in np.flatnonzero(doubtful).tolist():
        row, name = int(rows[i]), f"annotation {split.annotation_name(int(rows[i]))}"
        make = lambda kind, sentence, **values: split.of_object(kind, row, f"{name} has a mask {sentence}", **values)
        values = {"mask": bounds[i].tolist(), "box": boxes[i].tolist()}
        if empty[i]:
            yield make("mask_empty", "without area in its image")
            continue
        if overlaps[i] < AGREEING:
            sentence = f"whose box overlaps the annotated one with an IoU of {overlaps[i]:.2f}"
            yield make("mask_differs", sentence, iou=float(overlaps[i]), **values)
        elif far[i]:
            yield make("mask_outside", f"that exceeds its box by {beyond[i].max():.0f} pixels", **values)
        if holes[i] >= many[i]:
            noun = "holes" if bitmaps[i] else "polygons inside another one, which are filled"
            yield make("mask_holes", f"with {holes[i]} {noun}", holes=int(holes[i]))
        if parts[i] > MANY_PARTS:
            yield make("mask_parts", f"of {parts[i]} parts", parts=int(parts[i]))


def _area(ring: np.ndarray) -> float:
    """Computes the area by the shoelace formula."""
    x, y = ring.T
    closing = x[-1] * y[0] - y[-1] * x[0]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:]) + closing)) / 2


def _topology_of_bitmap(segment: Bitmap) -> tuple[int, int]:
    """Returns the numbers of parts and holes."""
    import cv2

    if not segment.array.any():
        return 0, 0
    _, hierarchy = cv2.findContours(np.pad(segment.array, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    inner = hierarchy[0, :, 3] >= 0
    return int((~inner).sum()), int(inner.sum())


def _topology_of_polygons(segment: Polygons) -> tuple[int, int]:
    """Returns the numbers of rings outside all others and of rings inside another one."""
    import cv2

    if len(segment.rings) == 1:
        return 1, 0
    contours = [np.round(ring).astype(np.float32)[:, None] for ring in segment.rings]
    low, high = (np.array([bound(ring, 0) for ring in segment.rings]) for bound in (np.min, np.max))
    inner = 0
    for i, ring in enumerate(segment.rings):
        around = (low < low[i]).all(1) & (high > high[i]).all(1)
        inner += any(
            all(cv2.pointPolygonTest(contours[j], (float(x), float(y)), False) > 0 for x, y in ring)
            for j in np.flatnonzero(around).tolist()
        )
    return len(segment.rings) - inner, inner
