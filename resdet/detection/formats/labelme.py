"""LabelMe's format: a JSON file per image, with rectangles, polygons, circles and masks."""

import base64
import binascii
import math
from typing import Any

import numpy as np

from resdet.detection.formats.collector import Collector, number_in, size_in
from resdet.detection.formats.folder import Folder, by_split
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.detection.formats.shapes import ellipse, rle_in_box
from resdet.errors import DataError
from resdet.files.json_file import read_json
from resdet.images.decode import EncodedImage

SAMPLE = 5  # files to inspect
KEYS = (b'"shapes"', b'"imagePath"')


class LabelMe:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        files = folder.having(".json")
        if not any(all(key in folder.head(file, -1) for key in KEYS) for file in files[:SAMPLE]):
            return Unfit("no JSON file with shapes and imagePath", 0)
        splits = {split: Split(tuple(names), annotated=len(names)) for split, names in by_split(files).items()}
        return Layout("labelme", folder, splits, f"{files[0]} and {len(files) - 1} more JSON files")

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        broken = []
        for file in layout.splits[split].annotations:
            try:
                content = read_json(layout.root / file)
            except DataError:
                content = None
            shapes = content.get("shapes") if isinstance(content, dict) else None
            if not isinstance(content, dict) or not isinstance(shapes, list):
                broken.append(file)
                continue
            written = content.get("imagePath")
            stem = file.rpartition("/")[2][: -len(".json")]
            image = layout.folder.locate(written, file, split) if isinstance(written, str) else None
            image = image or layout.folder.locate(stem, file, split) or str(written)
            size = size_in(content.get("imageWidth"), content.get("imageHeight"))
            _add_shapes(collector.add_image(image, size), shapes, size, file, collector)
        collector.leave_out("image", broken, "no JSON with a list of shapes")
        return collector.content()


def _add_shapes(image: int, shapes: list[Any], size: tuple[int, int] | None, file: str, collector: Collector) -> None:
    """Adds the shapes of an image; polygons with the same label and group_id are one object."""
    groups: dict[object, tuple[str, str, list[list[float]]]] = {}
    for number, shape in enumerate(shapes, 1):
        place, shape = f"{number} of {file}", shape if isinstance(shape, dict) else {}
        label, kind = shape.get("label"), shape.get("shape_type", "polygon")
        label = "" if label is None else str(label)
        points = _points(shape.get("points"))
        if points is None:
            collector.leave_out("shape", [place], "points that are not pairs of numbers")
        elif kind == "rectangle" and len(points) >= 4:
            box = min(points[0::2]), min(points[1::2]), max(points[0::2]), max(points[1::2])
            collector.add_object(image, label, box, place)
        elif kind == "mask" and size and len(points) == 4:
            _add_mask(image, label, shape.get("mask"), points, size, place, collector)
        elif ring := _ring(kind, points):
            group = shape.get("group_id")
            key = (label, str(group)) if group is not None else number
            groups.setdefault(key, (label, place, []))[2].append(ring)
        else:
            collector.leave_out("shape", [place], "no area, such as a point or a line")
    for label, place, rings in groups.values():
        collector.add_polygons(image, label, rings, place)


def _points(points: Any) -> list[float] | None:
    """Returns x1, y1, x2, y2 …; None unless all are pairs of finite numbers."""
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        return None
    numbers = [number_in(side) for point in points for side in point]
    return numbers if all(map(math.isfinite, numbers)) else None


def _ring(kind: object, points: list[float]) -> list[float]:
    """Returns the outline of a polygon or a circle, given by its center and a point on it; empty for other shapes."""
    if kind == "circle" and len(points) == 4:
        radius = math.dist(points[:2], points[2:])
        return ellipse(points[:2], (radius, radius))
    return points if kind in ("polygon", "rotation", "oriented_rectangle", None) and len(points) >= 6 else []


def _add_mask(
    image: int, label: str, text: object, points: list[float], size: tuple[int, int], place: str, collector: Collector
) -> None:
    """Adds a mask: a PNG in base64, in the box given by two points."""
    corner = int(points[0]), int(points[1])
    try:
        pixels = EncodedImage(base64.b64decode(str(text), validate=True), place).decode()[..., 0]
    except (binascii.Error, ValueError, DataError):
        pixels = np.zeros((0, 0), np.uint8)
    rle = rle_in_box(pixels, corner, size)
    if rle is None:
        collector.leave_out("shape", [place], "a damaged mask")
    else:
        (left, top), (height, width) = corner, pixels.shape
        collector.add_object(image, label, (left, top, left + width, top + height), place, segmentation=rle)
