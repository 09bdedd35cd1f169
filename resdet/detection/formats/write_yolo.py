"""Writes YOLO's format: images/SPLIT/IMAGE, labels/SPLIT/NAME.txt and data.yaml."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from resdet.data import generated
from resdet.detection.data.coco_file import objects_by_image
from resdet.detection.data.outlines import polygons_of
from resdet.detection.formats.folder import stem
from resdet.detection.formats.share_classes import Content
from resdet.detection.formats.writer import Writer, Written
from resdet.files.atomic import write_text


class YoloWriter(Writer):
    """A polygon is a line, a box too; crowds, holes and keypoints are lost."""

    def write(self, contents: Mapping[str, Content], written: Written) -> None:
        categories = next(iter(contents.values()))["categories"]
        names = {number: category["name"] for number, category in enumerate(categories)}
        splits = {split: f"images/{split}" for split in contents}
        described = yaml.safe_dump({**splits, "names": names}, sort_keys=False, allow_unicode=True)
        write_text(written.folder / "data.yaml", described)
        labels = {category["id"]: number for number, category in enumerate(categories)}
        for split, content in contents.items():
            objects = objects_by_image(content)
            for image in content["images"]:
                name = written.place(image["file_name"], f"images/{split}")
                lines = [_line(entry, image, labels, written) for entry in objects[image["id"]]]
                path = written.folder / "labels" / split / f"{stem(name)}.txt"
                generated.put(path, "".join(f"{line}\n" for line in lines if line).encode())


def _line(entry: dict[str, Any], image: dict[str, Any], labels: Mapping[int, int], written: Written) -> str:
    """The line of an object; empty for a crowd."""
    if entry.get("iscrowd"):
        written.lost["crowds"] += 1
        return ""
    if entry.get("num_keypoints") or any(entry.get("keypoints") or ()):
        written.lost["keypoints of an object"] += 1
    size = image["width"], image["height"]
    ring = _ring(entry.get("segmentation"), size, written)
    x, y, width, height = entry["bbox"]
    numbers = ring or [x + width / 2, y + height / 2, width, height]
    fractions = (f"{number / size[k % 2]:.9g}" for k, number in enumerate(numbers))
    return " ".join([str(labels[entry["category_id"]]), *fractions])


def _ring(segmentation: Any, size: tuple[int, int], written: Written) -> list[float]:
    """One polygon; its parts are joined by lines there and back."""
    if not segmentation:
        return []
    rings = segmentation
    if isinstance(segmentation, dict):
        mask = _mask(segmentation, size)
        rings, has_holes = polygons_of(mask) if mask.any() else ([], False)
        written.lost["holes of a mask"] += has_holes
    if len(rings) > 1:
        written.lost["separate parts of a mask, which are joined by lines"] += len(rings)
    return join(rings)


def join(rings: Sequence[Sequence[float]]) -> list[float]:
    """One closed line through all polygons: each from its first point round to it, and then back to the start."""
    if len(rings) < 2:
        return list(rings[0]) if rings else []
    joined = [side for ring in rings for side in [*ring, *ring[:2]]]
    return joined + [side for ring in reversed(rings[:-1]) for side in ring[:2]]


def _mask(rle: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask

    return mask.decode(mask.frPyObjects(rle, *reversed(size)) if isinstance(rle["counts"], list) else rle)
