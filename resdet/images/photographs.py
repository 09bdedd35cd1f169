"""Generated JPEG files that take about as long to decode as photographs, for benchmarks without data."""

import numpy as np

WIDTH, HEIGHT, QUALITY = 500, 375, 90  # the most common size in ImageNet


def photographs(count: int) -> list[bytes]:
    """Generates `count` JPEG files, the same ones in every call."""
    return [encode(photograph(np.random.default_rng(seed))) for seed in range(count)]


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Draws overlapping polygons, each with a color and a texture: uint8 [HEIGHT, WIDTH, 3]."""
    import cv2

    image = surface(rng)
    for _ in range(rng.integers(4, 12)):
        outline = np.zeros((HEIGHT, WIDTH), np.uint8)
        center = rng.uniform((0, 0), (WIDTH, HEIGHT))
        corners = center + rng.normal(0, 80, (rng.integers(3, 9), 2))
        cv2.fillPoly(outline, [cv2.convexHull(corners.astype(np.int32))], 255, cv2.LINE_AA)
        opacity = (outline / 255)[..., None]
        image = opacity * surface(rng) + (1 - opacity) * image
    return image.clip(0, 255).astype(np.uint8)


def surface(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Draws one color plus noise whose amplitude falls with frequency, as in natural images: [height, width, 3]."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # no constant part, which the color provides
    waves = np.fft.rfft2(rng.standard_normal((height, width))) / frequency**1.2
    field = np.fft.irfft2(waves, (height, width))
    return rng.uniform(40, 215, 3) + rng.uniform(15, 45) * (field / field.std())[..., None] * rng.uniform(0.8, 1.2, 3)


def encode(pixels: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
