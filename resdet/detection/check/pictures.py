"""Pictures of findings: the image with the relevant annotations, as JPEG."""

from collections.abc import Sequence

import numpy as np

from resdet.detection.check.finding import Finding
from resdet.detection.check.split import Split
from resdet.detection.data.segmentation_columns import SegmentColumns
from resdet.errors import DataError
from resdet.images.decode import read_image
from resdet.images.encode import encode_image
from resdet.images.resize import new_size, resize_pixels
from resdet.results.box_format import xywh_to_xyxy
from resdet.results.visualizer import draw

SIDE = 320  # long side in pixels
QUALITY = 80
CONTEXT = 1.5  # margin around small objects on each side, as a multiple of their common box
SMALL = 0.15  # share of the image's long side; smaller objects are shown in a part of the image
MARGIN = 0.25  # share of the image's side; boxes are shown this far beyond the image
THICKER = np.array([-1, -1, 1, 1])  # offset in pixels of a second line around the box
GRAY = 200  # outside the image
MASKED = ("mask_differs", "mask_outside", "mask_holes", "mask_parts")
PAIRED = ("leak", "near_leak", "duplicate_image", "near_duplicate")


def picture(splits: Sequence[Split], finding: Finding) -> bytes | None:
    """Returns a JPEG for a finding about an image, or a pair for duplicates; None if an image is unreadable."""
    import cv2

    if finding.image_row is None:
        return None
    split = next(split for split in splits if split.name == finding.split)
    try:
        views = [_view(split, finding.image_row, finding.rows, masks=finding.kind in MASKED)]
        if finding.kind in PAIRED:
            other = next(split for split in splits if split.name == finding.values["other_split"])
            views.append(_view(other, finding.values["other_row"]))
    except DataError:
        return None
    height = min(view.shape[0] for view in views)
    views = [resize_pixels(view, max(1, round(view.shape[1] * height / view.shape[0])), height) for view in views]
    pixels = np.concatenate(views, 1)
    return encode_image("picture.jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def _view(split: Split, row: int, annotations: Sequence[int] = (), masks: bool = False) -> np.ndarray:
    """Draws the boxes of these annotations on the image, at most `SIDE` pixels large; `masks`: also their masks."""
    image = read_image(split.path(row), "restore it")
    size = (int(split.sizes[row, 0]), int(split.sizes[row, 1]))
    pixels = image.as_annotated(size).decode()
    drawn = [k for k in annotations if np.isfinite(split.boxes[k]).all()]
    if not drawn:
        return _fitted(pixels)
    scale = np.array(pixels.shape[1::-1]) / size
    shown = np.array([_corners(split.boxes[k]) for k in drawn]) * np.tile(scale, 2)
    window = _window(shown, pixels.shape[1], pixels.shape[0])
    part = _cut(pixels, window, GRAY)
    scaled = _fitted(part)
    moved = (shown - np.tile(window[:2], 2)) * (scaled.shape[1] / part.shape[1])
    labels = [int(split.labels[k]) for k in drawn]
    bitmaps = [_fitted(_cut(_mask(split, k, pixels.shape), window, 0))[..., 0] > 127 for k in drawn if masks]
    canvas = draw(scaled, moved, labels, masks=bitmaps if masks else None)
    return draw(canvas, moved + THICKER, labels)


def _mask(split: Split, annotation: int, shape: Sequence[int]) -> np.ndarray:
    """Draws a mask, uint8 [H, W, 3], 255 inside."""
    segmentation = split.annotations.entries[annotation].get("segmentation")
    arrays, _ = SegmentColumns.pack([segmentation], split.sizes[split.owners[[annotation]]])
    segment = SegmentColumns.read(arrays, 0, shape[0])
    bitmap = segment.bitmap(*shape[:2]) if segment else np.zeros(shape[:2], np.uint8)
    return np.repeat(bitmap[..., None] * np.uint8(255), 3, 2)


def _corners(box: np.ndarray) -> np.ndarray:
    """Converts a box as written (x, y, width, height) to xyxy, swapping negative sides."""
    corners = xywh_to_xyxy(box).reshape(2, 2)
    return np.concatenate([corners.min(0), corners.max(0)])


def _window(boxes: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """Chooses the part to show: the surroundings of small boxes, else the image, extended to boxes outside."""
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    limits = np.array([width, height])
    if (high - low).max() < SMALL * max(width, height) and (low >= 0).all() and (high <= limits).all():
        around = CONTEXT * max((high - low).max(), 16)
        low, high = (low - around).clip(0), np.minimum(high + around, limits)
    else:
        low = np.maximum(np.minimum(low, 0), -MARGIN * limits)
        high = np.minimum(np.maximum(high, limits), (1 + MARGIN) * limits)
    (left, top), (right, bottom) = np.floor(low).astype(int), np.ceil(high).astype(int)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _cut(pixels: np.ndarray, window: tuple[int, int, int, int], beyond: int) -> np.ndarray:
    """Cuts a window from the image, filled with the value `beyond` outside."""
    left, top, right, bottom = window
    part = np.full((bottom - top, right - left, 3), beyond, np.uint8)
    inner = pixels[max(top, 0) : bottom, max(left, 0) : right]
    part[max(-top, 0) :, max(-left, 0) :][: inner.shape[0], : inner.shape[1]] = inner
    return part


def _fitted(pixels: np.ndarray) -> np.ndarray:
    return resize_pixels(pixels, *new_size(pixels.shape[1], pixels.shape[0], SIDE, SIDE))
