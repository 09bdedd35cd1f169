"""Where things are in a training picture: resized, mirrored, cut out; boxes and segments go along."""

import math
from typing import Any

import cv2
import numpy as np

from resdet.detection.data.annotations import check_size
from resdet.detection.data.scene import Scene
from resdet.images.decode import EncodedImage, RawImage
from resdet.images.resizing import new_size, resize_pixels


def load(source: Any, index: int, short: float, long: float) -> Scene:
    """A picture of the source with its objects, decoded no larger than a resize to these sides needs."""
    image = open_image(source, index)
    pixels = image.decode(new_size(*image.size, short, long))
    return Scene.of(pixels, source.objects(index), scale_of(source, index, pixels))


def open_image(source: Any, index: int) -> EncodedImage | RawImage:
    """An image of the size that its annotations were made for; or of another, where a source knows of such."""
    image = source.image(index)
    check_size(source, index, image)
    return image


def scale_of(source: Any, index: int, pixels: np.ndarray) -> tuple[float, float]:
    """A picture's size / that which its annotations were made for, across and down."""
    width, height = source.sizes[index].tolist()
    return pixels.shape[1] / width, pixels.shape[0] / height


def flip(scene: Scene) -> Scene:
    """Left to right."""
    return scene.moved(cv2.flip(scene.pixels, 1), (-1, 1), (scene.size[0], 0))


def resize(scene: Scene, width: int, height: int) -> Scene:
    if scene.size == (width, height):
        return scene
    scale = (width / scene.size[0], height / scene.size[1])
    return scene.moved(resize_pixels(scene.pixels, width, height), scale, (0, 0))


def resize_short(scene: Scene, short: int, long: int) -> Scene:
    """The short side becomes `short`, or less where the long one would exceed `long`."""
    return resize(scene, *new_size(*scene.size, short, long))


def shrink_to_fit(scene: Scene, short: int, long: int) -> Scene:
    """The scene, made smaller only where a side exceeds its limit."""
    fits = min(scene.size) <= short and max(scene.size) <= long
    return scene if fits else resize_short(scene, short, long)


def window(scene: Scene, x: int, y: int, width: int, height: int) -> Scene:
    """The part of the picture from (x, y) on; black where it reaches beyond the picture."""
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top = max(0, -x), max(0, -y)
    part = scene.pixels[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    pixels[top : top + part.shape[0], left : left + part.shape[1]] = part
    return scene.moved(pixels, (1, 1), (-x, -y))


def random_crop(scene: Scene, rng: np.random.Generator, shares: tuple[float, float]) -> Scene:
    """A part whose sides are random shares of the picture's; one object's center, if there is any, is inside."""
    target = rng.choice(np.flatnonzero(~scene.crowd)) if not scene.crowd.all() else None
    corner, sides = [], []
    for axis, side in enumerate(scene.size):
        length = max(1, round(side * rng.uniform(*shares)))
        low, high = 0, side - length
        if target is not None:
            center = float(scene.boxes[target, axis::2].mean())
            low, high = max(low, math.ceil(center - length)), min(high, math.floor(center))
        corner.append(int(rng.integers(low, high, endpoint=True)))
        sides.append(length)
    return window(scene, *corner, *sides)


def jitter(scene: Scene, rng: np.random.Generator, factor: float, size: int) -> Scene:
    """Large-scale jitter (arXiv 2012.07177): fitted into `factor` times a square of `size`, of which it keeps a part.

    The part is random and fits the square. What is beyond it is cut off before the rest is resized.
    """
    scale = factor * size / max(scene.size)
    width, height = (min(side, math.ceil(size / scale)) for side in scene.size)
    x, y = (int(rng.integers(0, side - kept, endpoint=True)) for side, kept in zip(scene.size, (width, height)))
    part = window(scene, x, y, width, height)
    return resize(part, *(min(size, max(1, round(side * scale))) for side in part.size))
