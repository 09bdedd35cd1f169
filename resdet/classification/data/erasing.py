"""Random erasing (Zhong et al., arXiv 1708.04896)."""

import math

import numpy as np


def random_erasing(
    pixels: np.ndarray,
    rng: np.random.Generator,
    p: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> np.ndarray:
    """With probability `p`, fills a random rectangle with noise, uniform in each pixel and channel."""
    if rng.random() >= p:
        return pixels
    x, y, w, h = erased_box((pixels.shape[1], pixels.shape[0]), rng, area, ratio)
    erased = pixels.copy()
    erased[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    return erased


def erased_box(
    size: tuple[int, int], rng: np.random.Generator, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Returns a box (x, y, width, height): area uniform in `area`, height / width log-uniform in `ratio`.

    Empty after ten samples that do not fit.
    """
    width, height = size
    for _ in range(10):
        pixels = width * height * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
        if w < width and h < height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    return 0, 0, 0, 0
