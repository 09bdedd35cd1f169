"""Augmentations that combine images: mosaic (YOLOv4, arXiv 2004.10934) and copy-paste (arXiv 2012.07177)."""

import math
from dataclasses import replace

import numpy as np

from resdet.detection.data.geometry import resize, window
from resdet.detection.data.keypoints import join
from resdet.detection.data.scene import Scene, bounds_within, rasterize, whole_pixels
from resdet.detection.data.segmentation import Bitmap

CENTER = (0.25, 0.75)  # range of the center of a mosaic, relative to the sides
MIN_VISIBLE = 0.1  # objects with no more than this visible share are dropped
PASTE_PROBABILITY = 0.5  # per object


def mosaic(scenes: list[Scene], rng: np.random.Generator) -> Scene:
    """Arranges four images around a random point on a canvas with the size of the first.

    Each is resized to cover its quarter, keeping its aspect ratio, and cropped at the outer sides.
    """
    width, height = scenes[0].size
    x, y = (round(side * rng.uniform(*CENTER)) for side in (width, height))
    canvas = np.zeros_like(scenes[0].pixels)
    parts = []
    for number, scene in enumerate(scenes):
        right, below = number % 2, number // 2
        left, top = x * right, y * below
        quarter = (width - x if right else x, height - y if below else y)
        if min(quarter) > 0:
            part = _cover(scene, *quarter, right, below)
            canvas[top : top + quarter[1], left : left + quarter[0]] = part.pixels
            parts.append(part.moved(canvas, (1, 1), (left, top)))
    return merge(canvas, parts)


def _cover(scene: Scene, width: int, height: int, right: int, below: int) -> Scene:
    """Resizes the scene to cover width × height and crops it at the left (or `right`) and top (bottom if `below`)."""
    scale = max(width / scene.size[0], height / scene.size[1])
    sides = [min(side, math.ceil(kept / scale)) for side, kept in zip(scene.size, (width, height))]
    x, y = (0 if first else side - kept for first, side, kept in zip((right, below), scene.size, sides))
    return resize(window(scene, x, y, *sides), width, height)


def copy_paste(scene: Scene, other: Scene, rng: np.random.Generator) -> Scene:
    """Pastes random objects of the other image onto this one, with a random shift.

    Segments and boxes lose their covered parts, covered keypoints are hidden, and objects with little left are dropped.
    """
    has_segment = np.array([segment is not None for segment in other.segments], bool)
    chosen = other.select(has_segment & ~other.crowd & (rng.random(len(other)) < PASTE_PROBABILITY))
    margins = [side - other_side for side, other_side in zip(scene.size, other.size)]
    x, y = (int(rng.integers(min(0, margin), max(0, margin), endpoint=True)) for margin in margins)
    pasted = window(chosen, -x, -y, *scene.size)
    cover, visible = np.zeros(scene.pixels.shape[:2], bool), np.zeros(len(pasted), bool)
    for i, (box, segment) in enumerate(zip(pasted.boxes, pasted.segments)):
        assert segment is not None  # has_segment
        rows, columns, bitmap = rasterize(segment, box)
        cover[rows, columns] |= bitmap.astype(bool)
        visible[i] = bitmap.any()
    pixels = scene.pixels.copy()
    pixels[cover] = pasted.pixels[cover]
    return merge(pixels, [_uncovered(scene, cover), pasted.select(visible)])


def _uncovered(scene: Scene, cover: np.ndarray) -> Scene:
    """Removes the parts of objects under `cover`, bool [h, w]."""
    boxes, segments, keep = scene.boxes.copy(), list(scene.segments), np.ones(len(scene), bool)
    keypoints = scene.keypoints and scene.keypoints.without(cover)
    for i, (box, segment) in enumerate(zip(scene.boxes, scene.segments)):
        rows, columns, bitmap = rasterize(segment or _full(box), box)
        visible = bitmap * ~cover[rows, columns]
        if visible.sum() == bitmap.sum():
            continue
        keep[i] = visible.sum() > MIN_VISIBLE * bitmap.sum()
        if keep[i] and segment is not None:
            segments[i] = Bitmap(visible, (columns.start, rows.start))
            boxes[i] = bounds_within(box, visible, columns.start, rows.start)
    return replace(scene, boxes=boxes, segments=segments, keypoints=keypoints).select(keep)


def _full(box: np.ndarray) -> Bitmap:
    """Returns a bitmap of the whole box, for an object without a segment."""
    rows, columns = whole_pixels(box)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    return Bitmap(np.ones(shape, np.uint8), (columns.start, rows.start))


def merge(pixels: np.ndarray, scenes: list[Scene]) -> Scene:
    """Returns a scene with these pixels and the objects of all scenes."""
    boxes, labels, crowd = (
        np.concatenate([getattr(scene, name) for scene in scenes]) for name in ("boxes", "labels", "crowd")
    )
    segments = [segment for scene in scenes for segment in scene.segments]
    return Scene(pixels, boxes, labels, crowd, segments, join([scene.keypoints for scene in scenes]))
