"""Resizes images to a given short side and a maximum long side.

Matching another library's outputs requires its resizing: torchvision interpolates the float image without antialiasing,
detectron2 resizes the uint8 image with Pillow; resdet's default is OpenCV.
"""

from math import floor
from typing import Literal

import numpy as np

from resdet.images.decode import EncodedImage, RawImage

Style = Literal["opencv", "pillow", "torchvision"]


def resize(image: EncodedImage | RawImage, short: int, long: int, style: Style = "opencv") -> np.ndarray:
    """Resizes the image to [h, w, 3] at `new_size`, RGB with values 0 to 255: uint8, or float32 for `torchvision`.

    `opencv` decodes a large JPEG at a reduced scale if that suffices; the other styles decode all pixels.
    """
    width, height = new_size(*image.size, short, long, style)
    if style == "torchvision":
        return _interpolate(image.decode(), width, height)
    if style == "pillow":
        return _pillow(image.decode(), width, height)
    return resize_pixels(image.decode(smallest=(width, height)), width, height)


def new_size(width: int, height: int, short: int, long: int, style: Style = "opencv") -> tuple[int, int]:
    """Returns (width, height) with the short side `short`, or less if the long side would exceed `long`.

    Rounds like the library of `style`; each side is at least 1.
    """
    if style == "pillow":
        # Reproduces the rounding of detectron2, which scales to the short side first, then to the limit.
        scale = short / min(width, height)
        sides = [float(short) if side == min(width, height) else side * scale for side in (width, height)]
        limit = min(1.0, long / max(sides))
        across, down = (max(1, floor(side * limit + 0.5)) for side in sides)
        return across, down
    scale = min(short / min(width, height), long / max(width, height))
    rounded = floor if style == "torchvision" else round
    return max(1, rounded(width * scale)), max(1, rounded(height * scale))


def resize_pixels(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes with OpenCV: bilinear, or area averaging if a side shrinks to less than half."""
    import cv2

    shrinks = width * 2 < pixels.shape[1] or height * 2 < pixels.shape[0]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _interpolate(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Interpolates like torchvision's GeneralizedRCNNTransform, which normalizes first: both orders agree."""
    import torch
    from torch.nn import functional as F

    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    resized = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def _pillow(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
