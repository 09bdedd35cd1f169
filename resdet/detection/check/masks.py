"""Findings about masks: empty, apart from their box, with holes, of many parts."""

from collections.abc import Iterator

import numpy as np

from resdet.detection.check.boxes import iou
from resdet.detection.check.finding import Finding
from resdet.detection.check.split import Split
from resdet.detection.data.scene import has_area
from resdet.detection.data.segmentation import Bitmap, Polygons
from resdet.detection.data.segmentation_columns import SegmentColumns

AGREEING = 0.7  # IoU of the box of a mask and the annotated box
BEYOND, FAR = 2.0, 0.1  # pixels, and share of a side, by which a mask may reach out of its box
MANY_PARTS = 10
MANY_HOLES = 3  # in a bitmap: a ring has one
NO_AREA = 1e-3  # pixels


def check_masks(split: Split) -> list[Finding]:
    rows = split.usable()
    sizes = split.sizes[split.owners[rows]] if len(rows) else np.zeros((0, 2), np.int64)
    segmentations = [split.annotations.entries[row].get("segmentation") for row in rows.tolist()]
    arrays, problems = SegmentColumns.pack(segmentations, sizes)
    findings = [
        split.of_object("mask_invalid", row, f"annotation {split.annotations.name(row)} has {problem}")
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
    boxes = split.corners()[rows]
    for i in np.flatnonzero(masked & ~split.crowd[rows]).tolist():
        segment = SegmentColumns.read(arrays, i, int(sizes[i, 1]))
        findings += _of_mask(split, int(rows[i]), segment, boxes[i], sizes[i], bool(bitmaps[i]))
    return findings


def _of_mask(split: Split, row: int, segment, box: np.ndarray, size: np.ndarray, bitmap: bool) -> Iterator[Finding]:
    name = f"annotation {split.annotations.name(row)}"
    bounds = np.clip(segment.bounds().astype(np.float64), 0, np.tile(size, 2))
    area = float(segment.array.sum()) if bitmap else sum(map(_area, segment.rings))
    if area < NO_AREA or not has_area(bounds[None])[0]:
        yield split.of_object("mask_empty", row, f"{name} has a mask without area in its image")
        return
    values = {"mask": bounds.tolist(), "box": box.tolist()}
    overlap = float(iou(bounds[None], box[None])[0])
    sides = np.tile(box[2:] - box[:2], 2)
    beyond = np.concatenate([box[:2] - bounds[:2], bounds[2:] - box[2:]])
    if overlap < AGREEING:
        sentence = f"{name} has a mask whose box overlaps the annotated one with an IoU of {overlap:.2f}"
        yield split.of_object("mask_differs", row, sentence, iou=overlap, **values)
    elif (beyond > np.maximum(BEYOND, FAR * sides)).any():
        sentence = f"{name} has a mask that reaches out of its box by {beyond.max():.0f} pixels"
        yield split.of_object("mask_outside", row, sentence, **values)
    parts, holes = _topology_of_bitmap(segment) if bitmap else _topology_of_polygons(segment)
    if holes >= (MANY_HOLES if bitmap else 1):
        kind = "holes" if bitmap else "polygons inside another one, which are filled"
        yield split.of_object("mask_holes", row, f"{name} has a mask with {holes} {kind}", holes=holes)
    if parts > MANY_PARTS:
        yield split.of_object("mask_parts", row, f"{name} has a mask of {parts} parts", parts=parts)


def _area(ring: np.ndarray) -> float:
    """Shoelace formula."""
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _topology_of_bitmap(segment: Bitmap) -> tuple[int, int]:
    """Number of parts and of holes."""
    import cv2

    _, hierarchy = cv2.findContours(np.pad(segment.array, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    inner = hierarchy[0, :, 3] >= 0
    return int((~inner).sum()), int(inner.sum())


def _topology_of_polygons(segment: Polygons) -> tuple[int, int]:
    """Number of rings outside of all others, and of rings inside another one."""
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
