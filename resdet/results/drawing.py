"""Detections drawn on pictures: boxes, translucent masks, and captions that stay readable inside the picture.

RGB in and out, without a display; what is given is never written on.
"""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
OPACITY = 0.45  # of masks
GOLDEN = 0.618033988749895  # steps of this share of the circle keep any number of hues apart
TONES = ((0.9, 1.0), (0.65, 0.75), (0.5, 1.0))  # saturation and value, in turn
Color = tuple[int, int, int]


def draw(
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    captions: Sequence[str] = (),
    masks: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """A copy of the picture uint8 [H, W, 3] with n detections drawn, the first one uppermost.

    boxes: [n, 4] xyxy in pixels, also partly outside; labels: [n], for the colors; masks: bool [H, W], n of them, each
    asked for once.
    """
    drawn = np.array(pixels, order="C")
    width = line_width(*drawn.shape[:2])
    falling = range(len(boxes))[::-1]
    if masks is not None:
        for i in falling:
            _mask(drawn, masks[i], color(labels[i]), width)
    for i in falling:
        _box(drawn, boxes[i], color(labels[i]), width)
    for i in falling if captions else ():
        _caption(drawn, captions[i], boxes[i], color(labels[i]), width)
    return drawn


def sheet(pictures: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """The pictures, uint8 [h, w, 3] of any sizes, on white in rows of `columns`; each cell has the largest's size."""
    height, width = (max((picture.shape[axis] for picture in pictures), default=0) + gap for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    page = np.full((rows * height + gap, min(columns, len(pictures)) * width + gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = gap + i // columns * height, gap + i % columns * width
        page[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return page


def color(label: int) -> Color:
    """The class's color, RGB: always the same, far from that of the classes near to it."""
    saturation, value = TONES[int(label) % len(TONES)]
    channels = colorsys.hsv_to_rgb(int(label) * GOLDEN % 1, saturation, value)
    return tuple(round(255 * channel) for channel in channels)


def ink(ground: Color) -> Color:
    """Black or white, whichever reads better on this ground (by Rec. 601's luminance)."""
    return (0, 0, 0) if np.dot(ground, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)


def line_width(height: int, width: int) -> int:
    """Of boxes and outlines: one pixel on small pictures, three on 1000 x 1000."""
    return max(1, round((height + width) / 600))


def _mask(pixels: np.ndarray, mask: np.ndarray, color: Color, width: int) -> None:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    part = np.ascontiguousarray(mask[y : y + h, x : x + w])
    below = pixels[y : y + h, x : x + w]
    below[part] = np.round(below[part] * (1 - OPACITY) + np.array(color) * OPACITY)
    contours, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    cv2.drawContours(pixels, contours, -1, color, width, cv2.LINE_AA)


def _box(pixels: np.ndarray, box: np.ndarray, color: Color, width: int) -> None:
    """Four bars within the box, of which the picture shows what lies inside it; at least a dot."""
    left, top, right, bottom = _within(pixels, box)
    for rows, columns in (
        ((top, min(top + width, bottom)), (left, right)),
        ((max(bottom - width, top), bottom), (left, right)),
        ((top, bottom), (left, min(left + width, right))),
        ((top, bottom), (max(right - width, left), right)),
    ):
        pixels[slice(*rows), slice(*columns)] = color


def _caption(pixels: np.ndarray, text: str, box: np.ndarray, color: Color, width: int) -> None:
    """On filled ground above the box, or within it where there is no room, never beyond the picture's border."""
    height, limit = pixels.shape[:2]
    scale, thickness = 0.2 + 0.2 * width, max(1, width // 2)
    (w, h), below = cv2.getTextSize(text, FONT, scale, thickness)
    if w + 2 > limit:
        scale *= max(limit - 2, 1) / w
        (w, h), below = cv2.getTextSize(text, FONT, scale, thickness)
    left, top, _, _ = _within(pixels, box)
    x = max(0, min(left, limit - w - 2))
    ground = h + below + 2
    y = top - ground if top >= ground else max(0, min(top, height - ground))
    pixels[y : y + ground, x : x + w + 2] = color
    cv2.putText(pixels, text, (x + 1, y + h + 1), FONT, scale, ink(color), thickness, cv2.LINE_AA)


def _within(pixels: np.ndarray, box: np.ndarray) -> tuple[int, int, int, int]:
    """The box in whole pixels of the picture, at least one."""
    height, width = pixels.shape[:2]
    left, top = (int(np.clip(np.floor(side), 0, limit - 1)) for side, limit in zip(box[:2], (width, height)))
    right, bottom = (int(np.clip(np.ceil(side), 1, limit)) for side, limit in zip(box[2:], (width, height)))
    return left, top, max(right, left + 1), max(bottom, top + 1)
