"""CVAT's format for images: XML files with all images of a task, with boxes, polygons, ellipses and masks."""

import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from resdet.detection.data.voc import BROKEN
from resdet.detection.formats.collector import Collector, number_in, size_in
from resdet.detection.formats.folder import Folder, split_in, split_of
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.detection.formats.shapes import ellipse, rle_of_runs, turned_box
from resdet.errors import DataError

ROOT = re.compile(rb"<annotations[\s>]")
SUBSET = re.compile(rb'<image [^>]*?subset="([^"]*)"')
IMAGE = re.compile(rb"<image\s")
UNREAD = ("points", "polyline", "cuboid", "skeleton")  # shapes without an area


class Cvat:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        candidates = folder.having(".xml")
        files = [file for file in candidates if ROOT.search(folder.head(file))]
        if not files:
            return Unfit("no XML file with the element <annotations>")
        splits: dict[str, list[str]] = {}
        count = 0
        for file in files:
            data = folder.head(file, -1)
            count += len(IMAGE.findall(data))
            for subset in set(SUBSET.findall(data)) or {b""}:
                names = splits.setdefault(_split(subset.decode("utf-8", "replace"), file), [])
                names += [] if file in names else [file]
        if not count:
            return Unfit(f"{files[0]} is of a video: export it as 'CVAT for images'", len(files))
        contents = {split: Split(tuple(names), annotated=count // len(splits)) for split, names in splits.items()}
        return Layout("cvat", folder, contents, ", ".join(files))

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        classes: dict[str, None] = {}
        for file in layout.splits[split].annotations:
            try:
                root = ElementTree.parse(layout.root / file).getroot()
            except (OSError, *BROKEN) as error:
                raise DataError(f"{layout.root / file} is not valid XML ({error}): export it again.") from error
            classes |= dict.fromkeys(name.text for name in root.iterfind("meta//labels/label/name") if name.text)
            for element in root.iterfind("image"):
                if _split(element.get("subset", ""), file) == split:
                    _add_image(element, file, split, collector)
        return collector.content(list(classes))


def _split(subset: str, file: str) -> str:
    """Returns the split of an image, by its subset or else its file name."""
    return split_of(subset) or (not subset and (split_of(file.rpartition("/")[2]) or split_in(file))) or "train"


def _add_image(element: ElementTree.Element, file: str, split: str, collector: Collector) -> None:
    name = element.get("name", "")
    size = size_in(element.get("width"), element.get("height"))
    image = collector.add_image(collector.folder.locate(name, file, split) or name, size)
    for number, shape in enumerate(_shapes(element), 1):
        place = f"{number} of {name}"
        label, rings = shape.get("label", ""), _rings(shape)
        if shape.tag == "box" and not number_in(shape.get("rotation", "0")):
            box = [number_in(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
            collector.add_object(image, label, box, place)
        elif shape.tag == "mask":
            _add_mask(image, shape, size, place, collector)
        elif rings:
            collector.add_polygons(image, label, [rings], place)
        else:
            collector.leave_out("object", [place], f"no area, a shape of the kind {shape.tag}")


def _shapes(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Yields the shapes of an image, without tags, which describe the whole image."""
    return (shape for shape in element if shape.tag in ("box", "polygon", "ellipse", "mask", *UNREAD))


def _rings(shape: ElementTree.Element) -> list[float]:
    """Returns the outline x1, y1, x2, y2 … of a rotated box, a polygon or an ellipse; empty for other shapes."""
    numbers = lambda *keys: [number_in(shape.get(key)) for key in keys]
    turn = number_in(shape.get("rotation", "0"))
    if shape.tag == "box":
        return turned_box(numbers("xtl", "ytl", "xbr", "ybr"), turn)
    if shape.tag == "ellipse":
        return ellipse(numbers("cx", "cy"), numbers("rx", "ry"), turn)
    if shape.tag != "polygon":
        return []
    points = [number_in(text) for text in re.split(r"[,;]", shape.get("points", ""))]
    return points if len(points) >= 6 and len(points) % 2 == 0 and all(map(math.isfinite, points)) else []


def _add_mask(
    image: int, shape: ElementTree.Element, size: tuple[int, int] | None, place: str, collector: Collector
) -> None:
    """Adds a mask given as row-major runs in a box, starting with background."""
    left, top, width, height = (number_in(shape.get(key)) for key in ("left", "top", "width", "height"))
    runs = [number_in(text) for text in shape.get("rle", "").split(",")]
    rle = rle_of_runs(runs, (left, top), (width, height), size) if size else None
    if rle is None:
        collector.leave_out("object", [place], "a damaged mask")
    else:
        box = left, top, left + width, top + height
        collector.add_object(image, shape.get("label", ""), box, place, segmentation=rle)
