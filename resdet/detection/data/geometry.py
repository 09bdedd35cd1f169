"""Geometric transforms of scenes (resize, flip, crop), including boxes and segments."""

import math

import cv2
import numpy as np

from resdet.detection.data.annotations import Annotations, check_size
from resdet.detection.data.scene import Scene
from resdet.images.decode import EncodedImage, RawImage
from resdet.images.resize import new_size, resize_pixels


def read_scene(source: Annotations, index: int, short: float, long: float) -> Scene:
    """Reads an image with its objects, decoding at reduced size if a later resize to these sides allows it."""
    image = open_image(source, index)
    pixels = image.decode(new_size(*image.size, short, long))  # type: ignore[arg-type]  # fractions are allowed
    return Scene.of(pixels, source.objects(index), scale_of(source, index, pixels))


def open_image(source: Annotations, index: int) -> EncodedImage | RawImage:
    """Opens an image; raises DataError if its annotations declare another size, unless the source allows it."""
    image = source.image(index)
    check_size(source, index, image)
    return image


def scale_of(source: Annotations, index: int, pixels: np.ndarray) -> tuple[float, float]:
    """Returns the ratio of the pixels' size to the annotated size, in x and y."""
    width, height = source.sizes[index].tolist()
    return pixels.shape[1] / width, pixels.shape[0] / height


def flip(scene: Scene) -> Scene:
    """Flips horizontally."""
    return scene.moved(cv2.flip(scene.pixels, 1), (-1, 1), (scene.size[0], 0))


def vertical_flip(scene: Scene) -> Scene:
    """Flips vertically."""
    return scene.moved(cv2.flip(scene.pixels, 0), (1, -1), (0, scene.size[1]))


def resize(scene: Scene, width: int, height: int) -> Scene:
    if scene.size == (width, height):
        return scene
    scale = (width / scene.size[0], height / scene.size[1])
    return scene.moved(resize_pixels(scene.pixels, width, height), scale, (0, 0))


def resize_short(scene: Scene, short: float, long: float) -> Scene:
    """Resizes the short side to `short`, or less if the long side would exceed `long`."""
    return resize(scene, *new_size(*scene.size, short, long))  # type: ignore[arg-type]  # fractions are allowed


def shrink_to_fit(scene: Scene, short: int, long: int) -> Scene:
    """Shrinks the scene if a side exceeds its limit."""
    fits = min(scene.size) <= short and max(scene.size) <= long
    return scene if fits else resize_short(scene, short, long)


def window(scene: Scene, x: int, y: int, width: int, height: int) -> Scene:
    """Crops a window with its corner at (x, y); black outside the image."""
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top = max(0, -x), max(0, -y)
    part = scene.pixels[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    pixels[top : top + part.shape[0], left : left + part.shape[1]] = part
    return scene.moved(pixels, (1, 1), (-x, -y))


def random_crop(scene: Scene, rng: np.random.Generator, shares: tuple[float, float]) -> Scene:
    """Crops a window with random relative sides that contains the center of a random object, if there is one."""
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
    """Applies large-scale jitter (arXiv 2012.07177): resizes to fit a square of `factor` × `size`, crops to `size`.

    The random crop is taken before the resize.
    """
    scale = factor * size / max(scene.size)
    width, height = (min(side, math.ceil(size / scale)) for side in scene.size)
    x, y = (int(rng.integers(0, side - kept, endpoint=True)) for side, kept in zip(scene.size, (width, height)))
    part = window(scene, x, y, width, height)
    return resize(part, *(min(size, max(1, round(side * scale))) for side in part.size))
