"""FiftyOne's instance masks: a zlib-compressed NumPy array in base64, or a grayscale PNG."""

import base64
import io
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resdet.detection.formats.folder import Folder
from resdet.detection.formats.mask_png import read_instances
from resdet.detection.formats.shapes import Rle, rle_in_box
from resdet.images.decode import MAX_PIXELS

LARGEST = 8 * MAX_PIXELS  # bytes of an unpacked array, with numbers of up to 8 bytes
KINDS = "bui"  # of NumPy's types: bool and integers
DAMAGE = (ValueError, TypeError, OverflowError, SyntaxError, MemoryError, RecursionError, zlib.error)


def has_mask(entry: Mapping[str, Any]) -> bool:
    return any(entry.get(key) is not None for key in ("mask", "mask_path"))


def mask_of(entry: Mapping[str, Any], folder: Folder, home: str) -> np.ndarray | None:
    """Returns the mask [h, w] of a detection; None if it is damaged or missing."""
    if entry.get("mask") is not None:
        return _unpacked(entry["mask"])
    file = file_of(entry, folder, home)
    return read_instances(folder, file) if file else None


def file_of(entry: Mapping[str, Any], folder: Folder, home: str) -> str | None:
    """Returns the path of a detection's mask file; None if there is no file."""
    if entry.get("mask") is not None or entry.get("mask_path") is None:
        return None
    file = os.path.normpath(os.path.join(home, str(entry["mask_path"]))).replace(os.sep, "/")
    return file if folder.has(file) else None


def rle_of_mask(mask: np.ndarray | None, box: Sequence[float], size: tuple[int, int]) -> Rle | None:
    """Converts a mask that covers a box (xyxy) in an image of `size` to COCO's RLE, rounding the corners to whole
    pixels and resizing the mask if necessary. None without a mask or if it exceeds the image."""
    if mask is None or not mask.size or not all(map(math.isfinite, box)):
        return None
    left, top, right, bottom = map(round, box)
    width, height = max(right - left, 1), max(bottom - top, 1)
    if width > size[0] or height > size[1] or size[0] * size[1] >= MAX_PIXELS:
        return None
    rows, columns = (np.arange(side) * count // side for side, count in zip((height, width), mask.shape))
    return rle_in_box(mask[rows[:, None], columns], (left, top), size)


def _unpacked(given: Any) -> np.ndarray | None:
    """Unpacks the array from a text, or from MongoDB's `{"$binary": {"base64": text}}`."""
    binary = given.get("$binary") if isinstance(given, Mapping) else given
    text = binary.get("base64") if isinstance(binary, Mapping) else binary
    try:
        data = base64.b64decode(str(text), validate=True)
        unpacker = zlib.decompressobj()
        file = io.BytesIO(unpacker.decompress(data, LARGEST))
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, kind = read_header(file)
        if not unpacker.eof or len(shape) != 2 or kind.kind not in KINDS:
            return None
        return np.frombuffer(file.read(), kind).reshape(shape, order="F" if by_columns else "C")
    except DAMAGE:
        return None
