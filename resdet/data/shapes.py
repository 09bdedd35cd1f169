"""Generated images of geometric shapes, without a download.

Each image has one shape of its class at a random position, angle and color, on a shaded and noisy background with
clutter that sometimes covers part of the shape. Image i of a seed is always the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from resdet.images.decode import RawImage

SHIFT = 4  # fixed-point bits of OpenCV's sub-pixel coordinates


def regular(corners: int, inner: float = 1.0) -> np.ndarray:
    """Returns a regular polygon [n, 2] of radius 1; `inner` below 1 is the radius of every other corner: a star."""
    count = corners * (1 if inner == 1 else 2)
    angles = 2 * np.pi * np.arange(count) / count
    radii = np.where(np.arange(count) % 2, inner, 1.0)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]


def cross() -> np.ndarray:
    a = 0.33
    return np.array(
        [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]
    )


def crescent() -> np.ndarray:
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 24)
    inner = outer[::-1]
    return np.concatenate(
        [np.stack([np.cos(outer), np.sin(outer)], 1), np.stack([0.75 * np.cos(inner) + 0.45, 0.75 * np.sin(inner)], 1)]
    )


def heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], 1) / 17


def arrow() -> np.ndarray:
    return np.array([(-1, -0.25), (0.1, -0.25), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.25), (-1, 0.25)])


# The closed outlines of each class; an outline within another is a hole.
OUTLINES: dict[str, Callable[[], list[np.ndarray]]] = {
    "circle": lambda: [regular(32)],
    "ring": lambda: [regular(32), 0.55 * regular(32)],
    "triangle": lambda: [regular(3)],
    "square": lambda: [regular(4)],
    "star": lambda: [regular(5, inner=0.4)],
    "cross": lambda: [cross()],
    "crescent": lambda: [crescent()],
    "heart": lambda: [heart()],
    "arrow": lambda: [arrow()],
    "frame": lambda: [regular(4), 0.55 * regular(4)],
}
CLASSES = list(OUTLINES)


def draw(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws an image of one shape, uint8 [size, size, 3]."""
    pixels = ground(size, size, rng)
    for _ in range(rng.integers(0, 4)):
        clutter(pixels, rng)
    fill(pixels, place(OUTLINES[CLASSES[label]](), size, rng), contrasting(pixels, rng))
    if rng.random() < 0.3:
        clutter(pixels, rng)
    noise = rng.normal(0, rng.uniform(2, 12), pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def ground(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a shaded background, uint8 [height, width, 3]: a color gradient in a random direction."""
    first, second = rng.uniform(0, 255, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width] / max(width, height)
    blend = (np.cos(angle) * x + np.sin(angle) * y) / 2 + 0.5
    return (first + (second - first) * 0.6 * blend[..., None]).astype(np.uint8)


def place(outlines: list[np.ndarray], size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Moves the outlines to a random pose, in pixels; the shape stays inside the image."""
    angle = rng.uniform(0, 2 * np.pi)
    radius = rng.uniform(0.2, 0.42) * size
    center = rng.uniform(radius, size - radius, 2)
    return pose(outlines, angle, rng.uniform(0.7, 1.0), radius, center)


def pose(
    outlines: list[np.ndarray], angle: float, squeeze: float, radius: float, center: np.ndarray
) -> list[np.ndarray]:
    """Squeezes the outlines in one direction, then rotates, scales and moves them."""
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return [(outline * (1.0, squeeze)) @ turn.T * radius + center for outline in outlines]


def contrasting(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a color that contrasts with the image mean."""
    mean = pixels.mean((0, 1))
    while True:
        color = rng.uniform(0, 255, 3)
        if np.abs(color - mean).sum() > 150:
            return color


class Stroke(NamedTuple):
    """A short thick line, a distractor without a class."""

    start: np.ndarray
    end: np.ndarray
    thickness: int


def stroke(width: int, height: int, rng: np.random.Generator) -> Stroke:
    size = max(width, height)
    start = rng.uniform(0, (width, height))
    end = start + rng.uniform(-0.3, 0.3, 2) * size
    return Stroke(start, end, max(1, int(size * rng.uniform(0.02, 0.08))))


def clutter(pixels: np.ndarray, rng: np.random.Generator) -> None:
    """Draws a random stroke."""
    height, width = pixels.shape[:2]
    line(pixels, stroke(width, height, rng), rng.uniform(0, 255, 3))


def line(canvas: np.ndarray, stroke: Stroke, color: np.ndarray) -> None:
    """Draws the stroke on a canvas uint8 [H, W] or [H, W, 3]."""
    import cv2

    start, end = (tuple(int(value) for value in np.round(point * 2**SHIFT)) for point in (stroke.start, stroke.end))
    cv2.line(canvas, start, end, color.tolist(), stroke.thickness, cv2.LINE_AA, SHIFT)


def fill(canvas: np.ndarray, outlines: list[np.ndarray], color: np.ndarray) -> None:
    """Fills the outlines on a canvas uint8 [H, W] or [H, W, 3]."""
    import cv2

    corners = [np.round(outline * 2**SHIFT).astype(np.int32) for outline in outlines]
    cv2.fillPoly(canvas, corners, color.tolist(), cv2.LINE_AA, SHIFT)


class ShapeImages:
    """A data set of generated images, drawn on access. Splits use different seeds."""

    def __init__(self, count: int, size: int, seed: int, split: str):
        self.size, self.stream = size, (seed, {"train": 0, "val": 1}[split])
        self.classes = CLASSES
        self.labels = np.arange(count) % len(CLASSES)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> RawImage:
        rng = np.random.default_rng((*self.stream, index))
        return RawImage(draw(int(self.labels[index]), self.size, rng), self.name(index))

    def header_size(self, index: int) -> tuple[int, int]:
        return self.size, self.size

    def name(self, index: int) -> str:
        return f"generated image {index}"

    def pixels(self) -> np.ndarray:
        """All images at once, uint8 [N, 3, size, size]."""
        return np.stack([self.image(i).pixels for i in range(len(self))]).transpose(0, 3, 1, 2)
