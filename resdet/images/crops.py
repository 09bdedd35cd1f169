"""Section 3.4's crops of a fixed size for training and testing.

Scale and crop are chosen first, from the size in the image header; then the image is decoded, at a reduced scale if
that suffices, and only the cropped part is resized.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np


class Image(Protocol):
    """An image, encoded or decoded."""

    @property
    def size(self) -> tuple[int, int]: ...

    def decode(self, smallest: tuple[int, int] | None = None) -> np.ndarray: ...


def scale_jitter_crop(
    image: Image, rng: np.random.Generator, size: int = 224, short: tuple[int, int] = (256, 480)
) -> np.ndarray:
    """Crops for training as in the paper (section 3.4): short side uniform in `short`, then a random square.

    Returns uint8 [size, size, 3].
    """
    width, height = resized(image.size, int(rng.integers(short[0], short[1], endpoint=True)))
    x = int(rng.integers(0, width - size, endpoint=True))
    y = int(rng.integers(0, height - size, endpoint=True))
    return resample(image, _window((width, height), image.size, (x, y), size), (size, size))


def random_resized_crop(
    image: Image,
    rng: np.random.Generator,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """Crops for training as in Inception: a box of random area and aspect ratio.

    Returns uint8 [size, size, 3].
    """
    return resample(image, random_box(image.size, rng, scale, ratio), (size, size))


def center_crop(image: Image, short: int, size: int) -> np.ndarray:
    """Crops the central square of the image resized to the short side `short`: uint8 [size, size, 3]."""
    width, height = resized(image.size, short)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return resample(image, (0, 0, *image.size), (width, height), (left, top, left + size, top + size))


def rectangle(image: Image, short: int) -> np.ndarray:
    """Resizes the image to the short side `short`, for fully-convolutional testing (section 3.4): uint8 [H, W, 3]."""
    return resample(image, (0, 0, *image.size), resized(image.size, short))


def ten_crop(image: Image, short: int, size: int) -> np.ndarray:
    """Returns AlexNet's ten views (section 3.4): four corners and the center, then those of the mirrored image.

    Returns uint8 [10, size, size, 3].
    """
    whole = rectangle(image, short)
    bottom, right = whole.shape[0] - size, whole.shape[1] - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    views = [pixels[y : y + size, x : x + size] for pixels in (whole, whole[:, ::-1]) for y, x in corners]
    return np.stack(views)


def random_flip(pixels: np.ndarray, rng: np.random.Generator, p: float = 0.5, axis: int = 1) -> np.ndarray:
    """Flips the image with probability `p`: horizontally, or vertically along axis 0."""
    import cv2

    return cv2.flip(pixels, axis) if rng.random() < p else pixels


def resized(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Returns (width, height) of an image of `size` resized to the short side `short` at the same aspect ratio."""
    width, height = size
    return (short, short * height // width) if width <= height else (short * width // height, short)


def random_box(
    size: tuple[int, int], rng: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Returns the box (x, y, width, height) of a random crop: area uniform in `scale`, width / height log-uniform in
    `ratio`.

    After ten boxes that do not fit, returns the largest central box with an aspect ratio in `ratio`.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            x, y = rng.integers(0, width - w, endpoint=True), rng.integers(0, height - h, endpoint=True)
            return int(x), int(y), w, h
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def resample(
    image: Image,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Resizes the part `box` of the image to `size`, close to Pillow's antialiased bilinear filter.

    `box` is (x, y, width, height) in pixels of the whole image, fractions allowed; `size` is (width, height). Returns
    uint8 [height, width, 3], or its part `window` (left, top, right, bottom).
    """
    import cv2

    left, top, right, bottom = window or (0, 0, *size)
    x, y, w, h = box
    full = image.size
    pixels = image.decode((math.ceil(full[0] * size[0] / w), math.ceil(full[1] * size[1] / h)))
    reduced = round(max(full) / max(pixels.shape[:2]))
    across = _span(x / reduced, w / reduced, size[0], pixels.shape[1])
    down = _span(y / reduced, h / reduced, size[1], pixels.shape[0])

    part = pixels[down.cut, across.cut]
    if max(across.block, down.block) > 1:
        blocks = (part.shape[1] // across.block, part.shape[0] // down.block)
        part = cv2.resize(part, blocks, interpolation=cv2.INTER_AREA)
    if max(across.step, down.step) > 1:
        # Pillow widens its triangle filter as the scale shrinks; three taps before the bilinear step match its width.
        # Mean absolute difference from Pillow on photographs shrunk 1.2, 1.4, 1.6, 1.8 and 2 times, in levels of 255:
        # 1.0, 1.1, 0.9, 0.6, 0.2; INTER_AREA alone, at half the speed: 0.7, 0.9, 1.3, 1.4, 2.8; INTER_LINEAR: 1.3, 2.1,
        # 2.8, 3.5, 3.1.
        filtered = np.empty_like(part)
        near = down.reach(top, bottom), across.reach(left, right)  # only these pixels are sampled
        taps = across.taps(reduced), down.taps(reduced)
        cv2.sepFilter2D(part[near], -1, *taps, dst=filtered[near], borderType=cv2.BORDER_REPLICATE)
        part = filtered
    x, y, w, h = across.start, down.start, across.step * size[0], down.step * size[1]  # the box in pixels of `part`
    if all(abs(edge - round(edge)) < 1e-6 for edge in (x, y, w, h)):
        part = part[round(y) : round(y + h), round(x) : round(x + w)]
        part = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)  # three times as fast as the warp
        return part[top:bottom, left:right]
    to_source = np.array(
        [[across.step, 0, across.start + across.step / 2 - 0.5], [0, down.step, down.start + down.step / 2 - 0.5]]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, to_source, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)[top:bottom, left:right]


class _Span(NamedTuple):
    """One axis of a crop: the pixels to cut, the block size to average, and start and step of the samples."""

    cut: slice
    block: int
    start: float
    step: float

    def reach(self, first: int, last: int) -> slice:
        """Returns the pixels that samples `first` to `last`, exclusive, depend on, including the 3-tap filter."""
        ends = self.start + self.step * first, self.start + self.step * last
        return slice(max(0, math.floor(ends[0]) - 3), math.ceil(ends[1]) + 3)

    def taps(self, reduced: int) -> np.ndarray:
        """Returns the three-tap filter that raises the total variance to that of Pillow's triangle filter.

        In pixels of the blocks: the target is step² / 6; the bilinear step gives 1 / 6, and averaging n pixels (which
        the decoder's reduction approximates) gives (1 - 1 / n²) / 12.
        """
        averaged = self.block * reduced
        variance = (self.step**2 - 1) / 6 - (1 - 1 / averaged**2) / 12
        side = max(0.0, variance / 2)
        return np.array([side, 1 - 2 * side, side], np.float32)


def _span(start: float, length: float, target: int, limit: int) -> _Span:
    """Plans the resizing of `length` pixels from `start`, on an axis of `limit` pixels, to `target` pixels."""
    block = max(1, math.ceil(length / target / 2))
    margin = 2 * block  # radius of the filters
    first = max(0, math.floor(start) - margin)
    blocks = (min(limit, math.ceil(start + length) + margin) - first) // block
    return _Span(slice(first, first + blocks * block), block, (start - first) / block, length / target / block)


def _window(
    resized_to: tuple[int, int], full: tuple[int, int], corner: tuple[int, int], size: int
) -> tuple[float, float, float, float]:
    """Returns the box, in pixels of the whole image, of a square of `size` pixels at `corner` of the resized image."""
    across, down = full[0] / resized_to[0], full[1] / resized_to[1]
    return corner[0] * across, corner[1] * down, size * across, size * down
