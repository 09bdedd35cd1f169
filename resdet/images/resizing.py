"""From an image of any size to one whose short side is as wanted and whose long side is within a limit.

Outputs compare with another library's only if pixels are resized as that library does: torchvision interpolates the
float picture without antialiasing, detectron2 resizes the uint8 picture with Pillow, and ours is OpenCV's.
"""

from math import floor
from typing import Literal

import numpy as np

from resdet.images.decode import EncodedImage, RawImage

Style = Literal["opencv", "pillow", "torchvision"]


def resize(image: EncodedImage | RawImage, short: int, long: int, style: Style = "opencv") -> np.ndarray:
    """The picture [h, w, 3] with the sides of `new_size`, RGB with values 0 to 255: uint8, torchvision's float32.

    OpenCV's way decodes a large JPEG at a reduced scale where that suffices; the others see every pixel.
    """
    width, height = new_size(*image.size, short, long, style)
    if style == "torchvision":
        return _interpolate(image.decode(), width, height)
    if style == "pillow":
        return _pillow(image.decode(), width, height)
    return resize_pixels(image.decode(smallest=(width, height)), width, height)


def new_size(width: int, height: int, short: int, long: int, style: Style = "opencv") -> tuple[int, int]:
    """(width, height) that brings the short side to `short`, or less where the long side would exceed `long`.

    Each library rounds its own way; a side of a very narrow picture stays at least 1.
    """
    if style == "pillow":
        # detectron2 scales to the short side first, and then that result to the limit: its roundings in floating point.
        scale = short / min(width, height)
        sides = [float(short) if side == min(width, height) else side * scale for side in (width, height)]
        limit = min(1.0, long / max(sides))
        return tuple(max(1, floor(side * limit + 0.5)) for side in sides)
    scale = min(short / min(width, height), long / max(width, height))
    rounded = floor if style == "torchvision" else round
    return max(1, rounded(width * scale)), max(1, rounded(height * scale))


def resize_pixels(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture in OpenCV's way: linear, but averaged over areas where a side shrinks to less than half."""
    import cv2

    shrinks = width * 2 < pixels.shape[1] or height * 2 < pixels.shape[0]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _interpolate(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """As GeneralizedRCNNTransform does, which normalizes before: the two commute."""
    import torch
    from torch.nn import functional as F

    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    resized = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def _pillow(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
