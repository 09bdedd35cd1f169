"""Several pictures in one: mosaic (YOLOv4, arXiv 2004.10934) and copy-paste (arXiv 2012.07177)."""

import math

import numpy as np

from resdet.detection.data.geometry import resize, window
from resdet.detection.data.scene import Scene, bounds_within, drawn, whole_pixels
from resdet.detection.data.segmentation import Bitmap

CENTRE = (0.25, 0.75)  # where, as shares of the sides, the four pictures of a mosaic may meet
LITTLE = 0.1  # an object of which no more than this share stays visible is dropped
CHANCE = 0.5  # that an object is pasted


def mosaic(scenes: list[Scene], rng: np.random.Generator) -> Scene:
    """Four pictures around a random point of a canvas as large as the first.

    Each is scaled to cover its quarter, proportions kept, and cut off at the outer sides.
    """
    width, height = scenes[0].size
    x, y = (round(side * rng.uniform(*CENTRE)) for side in (width, height))
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
    return joined(canvas, parts)


def _cover(scene: Scene, width: int, height: int, right: int, below: int) -> Scene:
    """The scene resized to cover width × height; what is too much is cut off at the right, or below, or opposite."""
    scale = max(width / scene.size[0], height / scene.size[1])
    sides = [min(side, math.ceil(kept / scale)) for side, kept in zip(scene.size, (width, height))]
    x, y = (0 if first else side - kept for first, side, kept in zip((right, below), scene.size, sides))
    return resize(window(scene, x, y, *sides), width, height)


def copy_paste(scene: Scene, other: Scene, rng: np.random.Generator) -> Scene:
    """Objects of the other picture, each with an even chance, laid over this one at a random shift.

    Those below lose what is covered from segment and box, and go where little of them is left.
    """
    has_segment = np.array([segment is not None for segment in other.segments], bool)
    chosen = other.select(has_segment & ~other.crowd & (rng.random(len(other)) < CHANCE))
    spare = [mine - theirs for mine, theirs in zip(scene.size, other.size)]
    x, y = (int(rng.integers(min(0, side), max(0, side), endpoint=True)) for side in spare)
    pasted = window(chosen, -x, -y, *scene.size)
    cover, shown = np.zeros(scene.pixels.shape[:2], bool), np.zeros(len(pasted), bool)
    for i, (box, segment) in enumerate(zip(pasted.boxes, pasted.segments)):
        rows, columns, bitmap = drawn(segment, box)
        cover[rows, columns] |= bitmap.astype(bool)
        shown[i] = bitmap.any()
    pixels = scene.pixels.copy()
    pixels[cover] = pasted.pixels[cover]
    return joined(pixels, [_uncovered(scene, cover), pasted.select(shown)])


def _uncovered(scene: Scene, cover: np.ndarray) -> Scene:
    """The objects as they are seen around what covers them, bool [h, w]."""
    boxes, segments, keep = scene.boxes.copy(), list(scene.segments), np.ones(len(scene), bool)
    for i, (box, segment) in enumerate(zip(scene.boxes, scene.segments)):
        rows, columns, bitmap = drawn(segment or _full(box), box)
        seen = bitmap * ~cover[rows, columns]
        if seen.sum() == bitmap.sum():
            continue
        keep[i] = seen.sum() > LITTLE * bitmap.sum()
        if keep[i] and segment is not None:
            segments[i] = Bitmap(seen, (columns.start, rows.start))
            boxes[i] = bounds_within(box, seen, columns.start, rows.start)
    return Scene(scene.pixels, boxes, scene.labels, scene.crowd, segments).select(keep)


def _full(box: np.ndarray) -> Bitmap:
    """Stands for the segment of an object that has none."""
    rows, columns = whole_pixels(box)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    return Bitmap(np.ones(shape, np.uint8), (columns.start, rows.start))


def joined(pixels: np.ndarray, scenes: list[Scene]) -> Scene:
    """The objects of all scenes on one picture."""
    boxes, labels, crowd = (
        np.concatenate([getattr(scene, name) for scene in scenes]) for name in ("boxes", "labels", "crowd")
    )
    return Scene(pixels, boxes, labels, crowd, [segment for scene in scenes for segment in scene.segments])
