"""Moves annotations of stored pixels to the upright image, for EXIF orientations that swap the sides."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from resdet.detection.formats.shapes import mask_of, rle_of
from resdet.errors import DataError
from resdet.images.decode import map_image, upright
from resdet.results.keypoints import HALF

Size = tuple[int, int]  # width, height
Entry = dict[str, Any]


def upright_scene(image: Entry, objects: Sequence[Entry]) -> tuple[Size, Sequence[Entry]]:
    """Returns size and objects of the upright image, in COCO's format; `file_name` is a path."""
    size = image["width"], image["height"]
    orientation = stored_orientation(image["file_name"], size)
    if orientation == 1:
        return size, objects
    return (size[1], size[0]), [_turned(entry, size, orientation) for entry in objects]


def stored_orientation(file: str, size: Size) -> int:
    """Returns an image's EXIF orientation if the annotations ignore it, as only the stored pixels have `size`; else
    1."""
    try:
        image = map_image(file, "restore it")
        is_stored = image.as_annotated(size) is not image
    except DataError:  # a damaged image
        return 1
    return image.declared.orientation if is_stored and image.declared else 1


def upright_points(points: np.ndarray, size: Size, orientation: int) -> np.ndarray:
    """Moves points [n, 2] of an image stored at `size` to the upright image; the orientation is 5 to 8."""
    turned = points[:, ::-1].copy()
    if orientation in (6, 7):
        turned[:, 0] = size[1] - turned[:, 0]
    if orientation in (7, 8):
        turned[:, 1] = size[0] - turned[:, 1]
    return turned


def _turned(entry: Entry, size: Size, orientation: int) -> Entry:
    def move(numbers: Sequence[float] | np.ndarray, shift: float = 0) -> np.ndarray:
        return upright_points(np.reshape(numbers, (-1, 2)) + shift, size, orientation) - shift

    x, y, width, height = entry["bbox"]
    corners = move([x, y, x + width, y + height])
    low, high = corners.min(0), corners.max(0)
    moved: Entry = {"bbox": [*low.tolist(), *(high - low).tolist()]}
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        moved["segmentation"] = rle_of(upright(mask_of(segmentation, size)[..., None], orientation)[..., 0])
    elif segmentation:
        moved["segmentation"] = [move(ring).ravel().tolist() for ring in segmentation]
    if entry.get("keypoints"):
        points = np.reshape(entry["keypoints"], (-1, 3)).astype(float)
        labeled = points[:, 2] > 0
        points[labeled, :2] = move(points[labeled, :2], HALF)
        moved["keypoints"] = points.ravel().tolist()
    return entry | moved
