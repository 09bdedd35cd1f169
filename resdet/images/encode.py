"""Writes images in the format given by the suffix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.errors import FileError
from resdet.files.atomic import write_bytes

SUFFIXES = (".jpg", ".png", ".webp", ".bmp", ".tif")  # the most common formats that can be written


def write_image(path: str | Path, pixels: np.ndarray) -> None:
    """Writes uint8 RGB [H, W, 3] in the format of the suffix of `path`."""
    write_bytes(path, encode_image(path, pixels))


def encode_image(path: str | Path, pixels: np.ndarray, settings: Sequence[int] = ()) -> bytes:
    """Encodes uint8 RGB [H, W, 3] in the format of the suffix of `path`; `settings`: those of cv2.imencode."""
    import cv2

    check_image_suffix(path)
    done, data = cv2.imencode(Path(path).suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
    if not done:
        height, width = pixels.shape[:2]
        raise FileError(
            f"{path} cannot be written ({width} × {height} pixels are too many for its format): use another format."
        )
    return data.tobytes()


def check_image_suffix(path: str | Path) -> None:
    """Raises a FileError if the suffix of `path` is not that of a writable image format."""
    import cv2

    suffix = Path(path).suffix
    if not cv2.haveImageWriter(f"image{suffix}"):
        problem = f"{suffix} is not an image format that can be written" if suffix else "it has no suffix of an image"
        raise FileError(f"{path} cannot be written ({problem}): use {', '.join(SUFFIXES)}.")
