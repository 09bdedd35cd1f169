"""Writes YOLO's format: images/SPLIT/IMAGE, labels/SPLIT/NAME.txt and data.yaml."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from resdet.data import output_folder
from resdet.detection.data.coco_file import objects_by_image
from resdet.detection.data.keypoints import KeypointNames, names_in
from resdet.detection.data.outlines import polygons_of
from resdet.detection.data.rle import without_slivers
from resdet.detection.data.segmentation import clip_ring
from resdet.detection.formats.folder import stem
from resdet.detection.formats.shapes import mask_of
from resdet.detection.formats.share_classes import Content
from resdet.detection.formats.upright import upright_scene
from resdet.detection.formats.writer import Writer, Written
from resdet.detection.formats.yolo_keypoints import to_yaml
from resdet.errors import DataError
from resdet.files.atomic import write_text


class YoloWriter(Writer):
    """Each polygon or box is a line; crowds, holes and boxes that differ from their mask's are lost. If all classes
    have the same keypoints, they follow a box in each line and masks are lost; otherwise keypoints are lost. Readers
    measure images upright, so coordinates refer to upright images."""

    def write(self, contents: Mapping[str, Content], written: Written) -> None:
        categories = next(iter(contents.values()))["categories"]
        names = {number: category["name"] for number, category in enumerate(categories)}
        for name, count in Counter(names.values()).items():
            if count > 1:
                raise DataError(f"Two classes are named {name!r}: rename one in the source.")
        splits = {split: f"images/{split}" for split in contents}
        keypoints = _shared_keypoints(categories)
        if keypoints:
            written.lost["lines of the skeleton"] += len(keypoints.skeleton)
        pose = to_yaml(keypoints, len(categories)) if keypoints else {}
        described = yaml.safe_dump({**splits, **pose, "names": names}, sort_keys=False, allow_unicode=True)
        write_text(written.folder / "data.yaml", described)
        labels = {category["id"]: number for number, category in enumerate(categories)}
        count = len(keypoints.names) if keypoints else 0
        for split, content in contents.items():
            objects = objects_by_image(content)
            for image in content["images"]:
                name = written.place(image["file_name"], f"images/{split}")
                size, entries = upright_scene(image, objects[image["id"]])
                lines = [_line(entry, size, labels, count, written) for entry in entries]
                path = written.folder / "labels" / split / f"{stem(name)}.txt"
                output_folder.put(path, "".join(f"{line}\n" for line in lines if line).encode())


def _shared_keypoints(categories: Sequence[dict[str, Any]]) -> KeypointNames | None:
    """Returns the keypoints shared by all classes; None if a class lacks them."""
    has_all = all(category.get("keypoints") for category in categories)
    return names_in(categories, "data.yaml") if has_all else None


def _line(
    entry: dict[str, Any], size: tuple[int, int], labels: Mapping[int, int], keypoints: int, written: Written
) -> str:
    """Returns the line of an object, with this number of `keypoints` after a box; empty for a crowd."""
    if entry.get("iscrowd"):
        written.lost["crowds"] += 1
        return ""
    x, y, width, height = entry["bbox"]
    box = [x + width / 2, y + height / 2, width, height]
    if keypoints:
        written.lost["masks"] += bool(entry.get("segmentation"))
        points = _points(entry.get("keypoints") or [0] * 3 * keypoints, size)
        return " ".join([str(labels[entry["category_id"]]), *_fractions(box, size), *points])
    written.lost["keypoints of an object"] += any(entry.get("keypoints") or ())
    ring = _ring(entry.get("segmentation"), size, written)
    written.lost["boxes not around their mask"] += bool(ring) and not _is_around(ring, entry["bbox"])
    return " ".join([str(labels[entry["category_id"]]), *_fractions(ring or box, size)])


def _is_around(ring: Sequence[float], box: Sequence[float]) -> bool:
    """Returns whether a box (xywh) bounds the polygon, within a pixel."""
    sides = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    around = (min(ring[0::2]), min(ring[1::2]), max(ring[0::2]), max(ring[1::2]))
    return all(abs(a - b) <= 1 for a, b in zip(sides, around))


def _fractions(numbers: Sequence[float], size: tuple[int, int]) -> list[str]:
    return [f"{number / size[k % 2]:.9g}" for k, number in enumerate(numbers)]


def _points(keypoints: Sequence[float], size: tuple[int, int]) -> list[str]:
    """Returns x, y and visibility of each keypoint."""
    triples = zip(keypoints[0::3], keypoints[1::3], keypoints[2::3])
    return [text for x, y, flag in triples for text in (*_fractions((x, y), size), str(int(flag)))]


def _ring(segmentation: Any, size: tuple[int, int], written: Written) -> list[float]:
    """Returns a single polygon, whose parts are joined by lines there and back."""
    if not segmentation:
        return []
    if isinstance(segmentation, dict):
        rings, has_holes = polygons_of(mask_of(segmentation, size))
        written.lost["holes of a mask"] += has_holes
    else:
        inside = (clip_ring(np.array(ring, float).reshape(-1, 2), (0, 0), size) for ring in segmentation)
        rings = without_slivers([ring.ravel().tolist() for ring in inside])
    if len(rings) > 1:
        written.lost["separate parts of a mask, which are joined by lines"] += len(rings)
    return join(rings)


def join(rings: Sequence[Sequence[float]]) -> list[float]:
    """Joins polygons to a closed line: around each from its first point, then back over the first points."""
    if len(rings) < 2:
        return list(rings[0]) if rings else []
    joined = [side for ring in rings for side in [*ring, *ring[:2]]]
    return joined + [side for ring in reversed(rings[:-1]) for side in ring[:2]]
