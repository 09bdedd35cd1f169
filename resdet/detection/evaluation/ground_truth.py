"""Ground truth for all evaluators: a validated COCO dict with missing values filled in.

Annotations of unknown images or categories are ignored, as in pycocotools.
"""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resdet.detection.data.annotations import BLACKLISTED
from resdet.detection.data.coco_file import CocoFile
from resdet.detection.data.keypoints import coco_keys, names_in, read_points
from resdet.detection.data.rle import without_slivers
from resdet.detection.data.segmentation_columns import SegmentColumns
from resdet.detection.data.validation import refuse, whole_numbers
from resdet.errors import DataError
from resdet.files.json_file import read_json

Kind = Literal["bbox", "segm", "keypoints"]
Truth = str | Path | dict  # a COCO annotation file, or its content
FLAGS = ("ignore", "difficult")  # annotation keys for VOC and ILSVRC
OF_FRAMES = ("video_id", "frame_id")  # image keys for ILSVRC VID, unchecked
OF_INSTANCES = ("instance_id", "motion_iou")  # annotation keys, likewise


def read(annotations: Truth, kind: Kind = "bbox") -> dict[str, list[dict]]:
    """Reads images, categories and annotations with `area`, `iscrowd`, and ids 1 to n; raises DataError if invalid.

    Annotation ids are renumbered because pycocotools ignores id 0 and confuses duplicate ids. Keys that no evaluator
    uses are omitted; the input is not modified.
    """
    file = str(annotations) if isinstance(annotations, (str, Path)) else "the ground truth"
    content = read_json(annotations) if isinstance(annotations, (str, Path)) else annotations
    coco = CocoFile(content, file, refuse(file))
    coco.annotations.valid &= coco.in_images & coco.in_categories
    coco.check_objects()
    if kind == "segm":
        check_masks(coco)
    keypoints = keypoints_of(coco, content["categories"], file) if kind == "keypoints" else None
    return {
        "images": images_of(coco),
        "categories": [{"id": number, "name": name} for number, name in coco.classes.items()],
        "annotations": annotations_of(coco, kind, keypoints),
    }


def images_of(coco: CocoFile) -> list[dict]:
    blacklists = coco.images.values(BLACKLISTED)
    listed = [blacklist is None or _are_ids(blacklist) for blacklist in blacklists]
    coco.images.require(np.array(listed, bool), f"no list of category ids as {BLACKLISTED}", BLACKLISTED)
    return [
        {"id": number}
        | ({"width": width, "height": height} if width > 0 and height > 0 else {})
        | ({BLACKLISTED: blacklist} if blacklist else {})
        | {key: given[key] for key in OF_FRAMES if key in given}
        for number, (width, height), blacklist, given in zip(
            coco.image_ids.tolist(), coco.sizes.tolist(), blacklists, coco.images.entries
        )
    ]


def annotations_of(coco: CocoFile, kind: Kind, keypoints: np.ndarray | None) -> list[dict]:
    """Builds the annotations; `keypoints` [M, K, 3] only with kind "keypoints"."""
    rows = np.flatnonzero(coco.annotations.valid)
    columns = (coco.owners, coco.categories, coco.boxes, coco.areas, coco.crowd.astype(int))
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    annotations = []
    for number, (row, *values) in enumerate(zip(rows.tolist(), *(column[rows].tolist() for column in columns)), 1):
        given = coco.annotations.entries[row]
        annotation = {"id": number} | dict(zip(keys, values)) | {flag: 1 for flag in FLAGS if given.get(flag)}
        annotation |= {key: given[key] for key in OF_INSTANCES if key in given}
        if kind == "segm":
            outline = given["segmentation"]
            annotation["segmentation"] = outline if isinstance(outline, dict) else without_slivers(outline)
        if keypoints is not None:
            annotation |= coco_keys(keypoints[row])
        annotations.append(annotation)
    return annotations


def check_masks(coco: CocoFile) -> None:
    """Rejects annotations without a valid mask of their image's size."""
    segmentations = coco.annotations.values("segmentation")
    coco.annotations.require(np.array([bool(given) for given in segmentations], bool), "no segmentation")
    sizes = coco.sizes[coco.rows()] if len(coco.images) else np.zeros((len(coco.annotations), 2), np.int64)
    coco.annotations.require((sizes > 0).all(1), "a mask, and its image no width and height")
    rows = np.flatnonzero(coco.annotations.valid)
    _, problems = SegmentColumns.pack([segmentations[row] for row in rows.tolist()], sizes[rows])
    for problem in filter(None, problems):
        good = np.ones(len(coco.annotations), bool)
        good[rows] = [each != problem for each in problems]
        coco.annotations.require(good, problem, "segmentation")


def keypoints_of(coco: CocoFile, categories: list[dict], file: str) -> np.ndarray:
    """Returns float64 [M, K, 3]; rejects files without keypoints and invalid keypoints."""
    names = names_in(categories, file)
    if names is None:
        raise DataError(f"{file}: no category has a list of keypoints: give a file such as COCO's person_keypoints.")
    return read_points(coco.annotations, names)


def image_sizes(images: list[dict]) -> dict[int, tuple[int, int]]:
    """Maps image ids to (height, width), for images with both."""
    return {
        image["id"]: (image["height"], image["width"]) for image in images if image.get("height") and image.get("width")
    }


def class_names(categories: list[dict]) -> list[str]:
    """Returns unique class names by ascending category id; appends the id to duplicate names."""
    ordered = sorted(categories, key=lambda category: category["id"])
    names = [str(category.get("name") or category["id"]) for category in ordered]
    while len(counts := Counter(names)) < len(names):
        names = [f"{name} ({entry['id']})" if counts[name] > 1 else name for name, entry in zip(names, ordered)]
    return names


def count_objects(truth: dict[str, list[dict]]) -> dict[int, int]:
    """Maps category ids to their number of objects, without crowds."""
    counts: dict[Any, int] = {category["id"]: 0 for category in truth["categories"]}
    for annotation in truth["annotations"]:
        counts[annotation["category_id"]] += not annotation["iscrowd"]
    return counts


def _are_ids(blacklist: Any) -> bool:
    return isinstance(blacklist, list) and bool((whole_numbers(blacklist) >= 0).all())
