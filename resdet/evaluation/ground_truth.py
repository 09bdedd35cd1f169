"""Ground truth as every evaluator takes it: a COCO dict whose gaps are filled, or a sentence that says what is wrong.

Annotations of images or categories that the file does not have count for nothing, as in pycocotools.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from resdet.data.found import read_json
from resdet.errors import DataError
from resdet.evaluation.columns import Columns

Kind = Literal["bbox", "segm"]


def read(annotations: str | Path | dict, kind: Kind = "bbox") -> dict[str, list[dict]]:
    """images, categories and annotations; the last with `area`, `iscrowd`, and ids 1 to n.

    The ids are given anew because pycocotools takes an object of id 0 for none, and one of two objects of the same id
    for the other. What is given is not changed.
    """
    file = str(annotations) if isinstance(annotations, (str, Path)) else "the ground truth"
    content = read_json(annotations) if isinstance(annotations, (str, Path)) else annotations
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{file} has no list {key!r}: give a COCO annotation file.")
    images, categories = content["images"], content["categories"]
    image_ids = Columns(images, file, "image").ids("id")
    category_ids = Columns(categories, file, "category").ids("id")
    if len(np.unique(category_ids)) < len(category_ids):
        raise DataError(f"{file} has two categories of one id: give each its own.")
    columns = Columns(content["annotations"], file, "annotation")
    known = np.isin(columns.ids("image_id"), image_ids) & np.isin(columns.ids("category_id"), category_ids)
    known = np.flatnonzero(known).tolist()
    if kind == "segm":
        check_masks(columns, known, image_sizes(images))
    return {"images": images, "categories": categories, "annotations": complete(columns, known)}


def complete(columns: Columns, known: list[int]) -> list[dict]:
    boxes = columns.boxes("bbox")
    areas = (boxes[:, 2] * boxes[:, 3]).tolist()
    return [
        {**columns.objects[i], "id": number, "bbox": boxes[i].tolist(), **missing(columns.objects[i], areas[i])}
        for number, i in enumerate(known, start=1)
    ]


def missing(annotation: dict, area: float) -> dict[str, float]:
    """What COCO has and other files leave out: the area (of the box), and that it is no crowd."""
    defaults = {"area": area, "iscrowd": 0}
    return {key: value for key, value in defaults.items() if annotation.get(key) is None}


def check_masks(columns: Columns, known: list[int], sizes: dict[int, tuple[int, int]]) -> None:
    for i in known:
        if not columns.objects[i].get("segmentation"):
            raise columns.error(i, "has no segmentation: judge boxes instead (bbox)")
        if columns.objects[i]["image_id"] not in sizes:
            raise columns.error(i, "has a mask, and its image no width and height: add them to the image")


def as_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """Polygons, or counts that are not compressed, as one compressed RLE."""
    from hotcoco import mask

    if isinstance(segmentation, list):
        return mask.merge(mask.frPyObjects(segmentation, height, width))
    return mask.frPyObjects(segmentation, height, width) if isinstance(segmentation["counts"], list) else segmentation


def image_sizes(images: list[dict]) -> dict[int, tuple[int, int]]:
    """Image id -> (height, width), where both are told."""
    return {
        image["id"]: (image["height"], image["width"]) for image in images if image.get("height") and image.get("width")
    }


def class_names(categories: list[dict]) -> list[str]:
    """By rising category id; those that share a name carry their id behind it."""
    ordered = sorted(categories, key=lambda category: category["id"])
    names = [str(category.get("name") or category["id"]) for category in ordered]
    return [f"{name} ({category['id']})" if names.count(name) > 1 else name for name, category in zip(names, ordered)]


def count_objects(truth: dict[str, list[dict]]) -> dict[int, int]:
    """Category id -> objects that are not crowds."""
    counts: dict[Any, int] = {category["id"]: 0 for category in truth["categories"]}
    for annotation in truth["annotations"]:
        counts[annotation["category_id"]] += not annotation["iscrowd"]
    return counts
