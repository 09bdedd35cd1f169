"""TrivialAugment Wide (arXiv 2103.10158) and RandAugment (arXiv 1909.13719).

Operations and magnitudes are those of torchvision's `TrivialAugmentWide` and `RandAugment`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from resdet.classification.data.augment_config import MAGNITUDES


class Op(NamedTuple):
    """An operation (pixels, magnitude) -> pixels and its maximum magnitude; magnitudes increase linearly from 0."""

    apply: Callable[[np.ndarray, float], np.ndarray]
    full: float = 0.0
    signed: bool = False  # whether the magnitude is negated with probability 0.5


def trivial_augment(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies a random operation of `WIDE` with a random magnitude."""
    return _apply(pixels, rng, WIDE, int(rng.integers(MAGNITUDES)))


def rand_augment(pixels: np.ndarray, rng: np.random.Generator, n: int = 2, magnitude: int = 9) -> np.ndarray:
    """Applies `n` random operations of `RAND`, each with `magnitude` (0 to 30)."""
    for _ in range(n):
        pixels = _apply(pixels, rng, RAND, magnitude)
    return pixels


def _apply(pixels: np.ndarray, rng: np.random.Generator, ops: dict[str, Op], magnitude: int) -> np.ndarray:
    op = list(ops.values())[rng.integers(len(ops))]
    sign = -1 if op.signed and rng.random() < 0.5 else 1
    return op.apply(pixels, sign * op.full * magnitude / (MAGNITUDES - 1))


def identity(pixels: np.ndarray, _: float) -> np.ndarray:
    return pixels


def shear_x(pixels: np.ndarray, slope: float) -> np.ndarray:
    return _warp(pixels, np.array([[1, slope, 0], [0, 1, 0]]))


def shear_y(pixels: np.ndarray, slope: float) -> np.ndarray:
    return _warp(pixels, np.array([[1, 0, 0], [slope, 1, 0]]))


def translate_x(pixels: np.ndarray, distance: float) -> np.ndarray:
    return _warp(pixels, np.array([[1, 0, -int(distance)], [0, 1, 0]]))


def translate_y(pixels: np.ndarray, distance: float) -> np.ndarray:
    return _warp(pixels, np.array([[1, 0, 0], [0, 1, -int(distance)]]))


def slide_x(pixels: np.ndarray, share: float) -> np.ndarray:
    return translate_x(pixels, share * pixels.shape[1])


def slide_y(pixels: np.ndarray, share: float) -> np.ndarray:
    return translate_y(pixels, share * pixels.shape[0])


def rotate(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates counterclockwise around the center."""
    x, y = pixels.shape[1] / 2, pixels.shape[0] / 2
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _warp(pixels, np.array([[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y]]))


def brightness(pixels: np.ndarray, change: float) -> np.ndarray:
    return cv2.LUT(pixels, _levels(_RAMP * (1 + change)))


def color(pixels: np.ndarray, change: float) -> np.ndarray:
    gray = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(pixels, 1 + change, gray, -change, 0)


def contrast(pixels: np.ndarray, change: float) -> np.ndarray:
    mean = round(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0])
    return cv2.LUT(pixels, _levels(mean + (_RAMP - mean) * (1 + change)))


def sharpness(pixels: np.ndarray, change: float) -> np.ndarray:
    """Sharpens or smooths; the border pixels, without a full neighborhood, do not change."""
    smooth = cv2.filter2D(pixels, -1, _SMOOTH)
    result = pixels.copy()
    result[1:-1, 1:-1] = cv2.addWeighted(pixels, 1 + change, smooth, -change, 0)[1:-1, 1:-1]
    return result


def posterize(pixels: np.ndarray, bits: float) -> np.ndarray:
    """Clears the lowest `bits` bits, rounded."""
    return pixels & np.uint8(256 - 2 ** round(bits))


def solarize(pixels: np.ndarray, share: float) -> np.ndarray:
    """Inverts the brightest `share` of the scale."""
    return cv2.LUT(pixels, np.where(_RAMP >= 255 * (1 - share), 255 - _RAMP, _RAMP).astype(np.uint8))


def auto_contrast(pixels: np.ndarray, _: float) -> np.ndarray:
    """Stretches each channel to the full scale."""
    low, high = pixels.min((0, 1)).astype(np.float64), pixels.max((0, 1)).astype(np.float64)
    scale = 255 / np.maximum(high - low, 1)
    stretched = _levels(_RAMP[:, None] * scale - low * scale)
    return _lookup(pixels, np.where(high > low, stretched, _RAMP[:, None].astype(np.uint8)))


def equalize(pixels: np.ndarray, _: float) -> np.ndarray:
    """Equalizes each channel's histogram, as Pillow does."""
    return _lookup(pixels, np.stack([_equalized(channel) for channel in cv2.split(pixels)], axis=1))


def _equalized(channel: np.ndarray) -> np.ndarray:
    """Returns the lookup table [256] that equalizes one channel."""
    histogram = np.bincount(channel.ravel(), minlength=256)
    step = (channel.size - histogram[channel.max()]) // 255
    if step == 0:
        return _RAMP.astype(np.uint8)
    below = np.cumsum(histogram) - histogram
    return np.minimum((below + step // 2) // step, 255).astype(np.uint8)


_RAMP = np.arange(256, dtype=np.float32)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _lookup(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Maps each channel of [H, W, 3] through its column of the table [256, 3]."""
    return cv2.LUT(pixels, table[None])


def _warp(pixels: np.ndarray, to_source: np.ndarray) -> np.ndarray:
    """Nearest-neighbor warp with a map [2, 3] from result to source, black outside; (0, 0) is the corner of a pixel."""
    to_source = to_source.astype(np.float64)
    to_source[:, 2] += (to_source[:, 0] + to_source[:, 1]) / 2 - 0.5
    size = (pixels.shape[1], pixels.shape[0])
    return cv2.warpAffine(pixels, to_source, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)


WIDE = {
    "Identity": Op(identity),
    "ShearX": Op(shear_x, 0.99, signed=True),
    "ShearY": Op(shear_y, 0.99, signed=True),
    "TranslateX": Op(translate_x, 32, signed=True),
    "TranslateY": Op(translate_y, 32, signed=True),
    "Rotate": Op(rotate, 135, signed=True),
    "Brightness": Op(brightness, 0.99, signed=True),
    "Color": Op(color, 0.99, signed=True),
    "Contrast": Op(contrast, 0.99, signed=True),
    "Sharpness": Op(sharpness, 0.99, signed=True),
    "Posterize": Op(posterize, 6),
    "Solarize": Op(solarize, 1),
    "AutoContrast": Op(auto_contrast),
    "Equalize": Op(equalize),
}
RAND = WIDE | {
    "ShearX": Op(shear_x, 0.3, signed=True),
    "ShearY": Op(shear_y, 0.3, signed=True),
    "TranslateX": Op(slide_x, 150 / 331, signed=True),
    "TranslateY": Op(slide_y, 150 / 331, signed=True),
    "Rotate": Op(rotate, 30, signed=True),
    "Brightness": Op(brightness, 0.9, signed=True),
    "Color": Op(color, 0.9, signed=True),
    "Contrast": Op(contrast, 0.9, signed=True),
    "Sharpness": Op(sharpness, 0.9, signed=True),
    "Posterize": Op(posterize, 4),
}
