"""Drawing of detections: boxes, translucent masks, keypoints and captions.

Inputs and outputs are RGB; no display is required, and input arrays are not modified.
"""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from resdet.results.captions import place

FONT = cv2.FONT_HERSHEY_SIMPLEX
OPACITY = 0.45  # opacity of masks
MIN_KEYPOINT_SCORE = 2.0  # logit, as in Detectron
GOLDEN = 0.618033988749895  # hue step, as a fraction of the circle; spaces any number of hues
TONES = ((0.9, 1.0), (0.65, 0.75), (0.5, 1.0))  # saturation and value, cycled over the labels
SIDES = (160, 640)  # minimum and maximum long side of pictures in logs, in pixels
ENLARGED, MOST = 640, 8  # long side to which small images are enlarged, and the maximum factor
THINNEST = 10  # the lines of a box are at most 1/THINNEST of its short side wide
MARGIN = 2  # padding of captions in pixels
Color = tuple[int, int, int]


def draw(
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    captions: Sequence[str] = (),
    masks: Sequence[np.ndarray] | None = None,
    scale: int = 1,
) -> np.ndarray:
    """Returns a copy of the image uint8 [H, W, 3], `scale` times as large, with n detections drawn, the first on top.

    boxes: [n, 4] xyxy in pixels, may extend beyond the image; labels: [n], which select the colors (see `apart`);
    masks: n of bool [H, W], each accessed once. Captions are placed where they cover no other caption and little of
    the objects; those without such a place are omitted.
    """
    canvas = enlarged(pixels, scale)
    boxes, width = np.asarray(boxes, float) * scale, line_width(*canvas.shape[:2])
    bottom_up = range(len(boxes))[::-1]
    if masks is not None:
        for i in bottom_up:
            _mask(canvas, masks[i], color(labels[i]), width)
    for i in bottom_up:
        _box(canvas, boxes[i], color(labels[i]), width)
    if captions:
        _captions(canvas, captions, boxes, labels, width)
    return canvas


def draw_keypoints(
    canvas: np.ndarray,
    keypoints: np.ndarray,
    labels: Sequence[int],
    skeleton: Sequence[tuple[int, int]],
    scale: int = 1,
) -> None:
    """Draws those keypoints [n, K, 3] of n detections with scores above MIN_KEYPOINT_SCORE, and the skeleton between
    them, on a canvas `scale` times as large as the image; the first detection on top."""
    width = line_width(*canvas.shape[:2])
    for i in range(len(keypoints))[::-1]:
        drawn = keypoints[i, :, 2] > MIN_KEYPOINT_SCORE
        points = [(int(x), int(y)) for x, y in np.floor(keypoints[i, :, :2] * scale)]
        for a, b in skeleton:
            if drawn[a] and drawn[b]:
                cv2.line(canvas, points[a], points[b], color(labels[i]), width, cv2.LINE_AA)
        for k in np.flatnonzero(drawn):
            cv2.circle(canvas, points[k], 2 * width, color(labels[i]), cv2.FILLED, cv2.LINE_AA)


def enlargement(height: int, width: int) -> int:
    """Returns the `scale` for viewing a picture: 1 if the long side has at least ENLARGED pixels, otherwise the
    smallest integer that reaches this length, at most MOST."""
    return min(-(-ENLARGED // max(height, width)), MOST)


def enlarged(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Returns a copy of uint8 [H, W, 3], `scale` times as large."""
    if scale == 1:
        return np.array(pixels, order="C")
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def sheet(images: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """Arranges images uint8 [h, w, 3] on white in rows of `columns`; each cell has the size of the largest image."""
    height, width = (max((image.shape[axis] for image in images), default=0) + gap for axis in (0, 1))
    rows = -(-len(images) // columns)
    page = np.full((rows * height + gap, min(columns, len(images)) * width + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = gap + i // columns * height, gap + i % columns * width
        page[y : y + image.shape[0], x : x + image.shape[1]] = image
    return page


def fitted(pixels: np.ndarray) -> np.ndarray:
    """Resizes the image, if necessary, to a long side within SIDES."""
    longest = max(pixels.shape[:2])
    if longest > SIDES[1]:
        height, width = (max(1, round(side * SIDES[1] / longest)) for side in pixels.shape[:2])
        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    factor = -(-SIDES[0] // longest)
    return pixels.repeat(factor, 0).repeat(factor, 1)


def apart(labels: Sequence[int]) -> Sequence[int]:
    """Returns labels for the colors: the given ones, or one number per object if all have the same class."""
    return range(len(labels)) if len(set(labels)) == 1 < len(labels) else labels


def color(label: int) -> Color:
    """Returns the fixed RGB color of a label; neighboring labels have distant colors."""
    saturation, value = TONES[int(label) % len(TONES)]
    red, green, blue = colorsys.hsv_to_rgb(int(label) * GOLDEN % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color(background: Color) -> Color:
    """Returns black or white, by contrast with the background (Rec. 601 luma)."""
    return (0, 0, 0) if np.dot(background, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)


def line_width(height: int, width: int) -> int:
    """Returns the line width of boxes and outlines: 1 pixel on small images, 3 on 1000 × 1000 pixels."""
    return max(1, round((height + width) / 600))


def _mask(pixels: np.ndarray, mask: np.ndarray, color: Color, width: int) -> None:
    """Enlarges the mask [H, W] to the size of the pixels, tints it and draws its outline."""
    scale = pixels.shape[0] // mask.shape[0]
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    part = np.ascontiguousarray(mask[y : y + h, x : x + w]).repeat(scale, 0).repeat(scale, 1)
    x, y, w, h = (scale * side for side in (x, y, w, h))
    patch = pixels[y : y + h, x : x + w]
    patch[part] = np.round(patch[part] * (1 - OPACITY) + np.array(color) * OPACITY)
    contours, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    cv2.drawContours(pixels, contours, -1, color, _thinned(-(-width // 2), w, h), cv2.LINE_AA)


def _box(pixels: np.ndarray, box: np.ndarray, color: Color, width: int) -> None:
    """Draws the four sides inside the box, clipped to the image, at least one pixel wide."""
    left, top, right, bottom = _within(pixels, box)
    width = _thinned(width, right - left, bottom - top)
    for rows, columns in (
        ((top, min(top + width, bottom)), (left, right)),
        ((max(bottom - width, top), bottom), (left, right)),
        ((top, bottom), (left, min(left + width, right))),
        ((top, bottom), (max(right - width, left), right)),
    ):
        pixels[slice(*rows), slice(*columns)] = color


def _thinned(width: int, *sides: int) -> int:
    """Returns a line width that does not fill an object with these sides."""
    return max(1, min(width, min(sides) // THINNEST))


def _captions(
    pixels: np.ndarray, captions: Sequence[str], boxes: np.ndarray, labels: Sequence[int], width: int
) -> None:
    height, limit = pixels.shape[:2]
    drawn = [_rendered(text, color(label), width, limit) for text, label in zip(captions, labels)]
    sizes = np.array([part.shape[1::-1] for part in drawn]).reshape(-1, 2)
    for part, corner in zip(drawn, place(boxes, sizes, height, limit)):
        if corner:
            x, y = corner
            patch = pixels[y : y + part.shape[0], x : x + part.shape[1]]
            patch[:] = part[: patch.shape[0], : patch.shape[1]]


def _rendered(text: str, background: Color, width: int, limit: int) -> np.ndarray:
    """Renders a caption as uint8 [h, w, 3], at most `limit` pixels wide."""
    scale, thickness = 0.28 + 0.12 * width, max(1, width // 3)
    (w, h), baseline = cv2.getTextSize(text, FONT, scale, thickness)
    if w + 2 * MARGIN > limit:
        scale *= max(limit - 2 * MARGIN, 1) / w
        (w, h), baseline = cv2.getTextSize(text, FONT, scale, thickness)
    part = np.full((h + baseline + MARGIN, w + 2 * MARGIN, 3), background, np.uint8)[:, :limit].copy()
    cv2.putText(part, text, (MARGIN, h + MARGIN // 2), FONT, scale, text_color(background), thickness, cv2.LINE_AA)
    return part


def _within(pixels: np.ndarray, box: np.ndarray) -> tuple[int, int, int, int]:
    """Rounds the box outward to whole pixels of the image, at least one."""
    height, width = pixels.shape[:2]
    left, top = (int(np.clip(np.floor(side), 0, limit - 1)) for side, limit in zip(box[:2], (width, height)))
    right, bottom = (int(np.clip(np.ceil(side), 1, limit)) for side, limit in zip(box[2:], (width, height)))
    return left, top, max(right, left + 1), max(bottom, top + 1)
