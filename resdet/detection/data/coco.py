"""COCO and LVIS annotation files: one JSON, compiled to an index."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from resdet.data.array_cache import Arrays, Strings, cached
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.coco_file import CocoFile
from resdet.detection.data.compile_annotations import (
    Measured,
    OnBad,
    Problems,
    RawAnnotations,
    compile_annotations,
    unchanged,
)
from resdet.detection.data.keypoints import names_in, read_points
from resdet.detection.data.validation import Records
from resdet.files.json_columns import read_columns
from resdet.results.box_format import xywh_to_xyxy

LISTS = ("images", "annotations")  # the long lists of a file


def open_coco(
    annotations: Path | str,
    images: Path | str,
    on_bad: OnBad = "skip",
    cache_dir: Path | None = None,
    keypoints: bool = True,
) -> Annotations:
    """Opens the file `annotations`, of COCO or LVIS, with its images in the folder `images`.

    Labels follow the order of the category ids. A bad entry raises an error, or is skipped and counted in `problems`.
    The compiled file is cached (`resdet.data.array_cache.cached`) and memory-mapped. `keypoints`: reads the keypoints
    that the categories declare.
    """
    file, folder = Path(annotations), Path(images)
    arrays = cached(
        f"coco-{on_bad}" if keypoints else f"coco-{on_bad}-boxes",
        [file],
        lambda: compile_coco(read_columns(file, LISTS), Problems(file, on_bad), Measured(folder), keypoints),
        cache_dir,
        ["keypoints"] if keypoints else [],
        places=[folder],
        holds=lambda arrays: unchanged(arrays, folder),
    )
    return Annotations(arrays, images, file)


def from_coco(content: dict[str, Any], images: Path | str, on_bad: OnBad = "skip") -> Annotations:
    """Creates annotations from a dict in COCO's format, with images in the folder `images`; for custom data formats."""
    arrays = compile_coco(content, Problems(Path(images) / "annotations", on_bad), Measured(images))
    return Annotations(arrays | {"intact": np.array([False])}, images)


def compile_coco(content: Any, problems: Problems, measured: Measured, keypoints: bool = True) -> Arrays:
    """Creates the arrays of `Annotations` from a dict in COCO's format; errors refer to it as `problems.file`."""
    file = str(problems.file)
    coco = CocoFile(content, file, problems.report)
    images, annotations = coco.images, coco.annotations
    files, sizes = _check_images(coco, measured)

    ids = annotations.whole("id")
    annotations.require_unique(ids)
    annotations.require(coco.in_images, "an image_id that no image has", "image_id")
    annotations.require(coco.in_categories, "a category_id that no category has", "category_id")
    owners = coco.rows()
    if len(images):
        annotations.valid &= images.valid[owners]  # excludes annotations of skipped images
    coco.check_objects()
    names = names_in(content["categories"], file) if keypoints else None
    points = read_points(annotations, names) if names else None

    image_rows, rows = np.flatnonzero(images.valid), np.flatnonzero(annotations.valid)
    raw = RawAnnotations(
        files=files if len(image_rows) == len(files) else [files[row] for row in image_rows.tolist()],
        sizes=sizes[image_rows],
        images=np.searchsorted(image_rows, owners[rows]),
        boxes=xywh_to_xyxy(coco.boxes[rows]),
        labels=np.searchsorted(list(coco.classes), coco.categories[rows]),
        names=ids[rows],
        crowd=coco.crowd[rows],
        segmentations=_segmentations(annotations, rows),
        image_columns={"image_ids": coco.image_ids[image_rows], "image_rows": image_rows},
        object_columns={"numbers": ids[rows], "object_rows": rows}
        | ({} if points is None else {"keypoints": points[rows].astype(np.float32)}),
    )
    counts, classes = (len(images), len(annotations)), coco.classes
    del content, coco, images, annotations, owners, ids, files, sizes, rows, image_rows  # gigabytes for a large file
    arrays = compile_annotations(raw, classes, problems, "annotation") | measured.arrays()
    complete = (len(arrays["image_rows"]), len(arrays["object_rows"])) == counts
    return arrays | (names.arrays() if names else {}) | {"intact": np.array([complete and not measured.files])}


def _segmentations(annotations: Records, rows: np.ndarray) -> Iterator[Any]:
    """Yields the segmentations of the `rows` in ascending order; removes all segmentations from the annotations."""
    kept = np.zeros(len(annotations), bool)
    kept[rows] = True
    return itertools.compress(itertools.chain.from_iterable(annotations.pop("segmentation")), kept.tolist())


def _check_images(coco: CocoFile, measured: Measured) -> tuple[Strings, np.ndarray]:
    """Returns file names and sizes of all images; measures sizes that are missing from the file."""
    images = coco.images
    has_name, possible = np.zeros((2, len(images)), bool)

    def declared() -> Iterator[str]:
        pairs = (pair for block in images.blocks("file_name", "coco_url") for pair in zip(*block))
        for row, (given, address) in enumerate(pairs):
            name = file_name({"file_name": given, "coco_url": address})
            has_name[row], possible[row] = name is not None, is_possible(name or "")
            yield name if name and possible[row] else ""

    names = Strings.pack(declared())
    images.require(has_name, "neither file_name nor coco_url")
    images.require(possible, "a file_name that no file can have", "file_name")
    sizes = coco.sizes.copy()
    for row in np.flatnonzero(images.valid & ~(sizes > 0).all(1)).tolist():
        sizes[row] = measured.size_of(names[row]) or (0, 0)
    images.require((sizes > 0).all(1), "no width and height, nor a readable file")
    return names, sizes


def file_name(image: dict[str, Any]) -> str | None:
    """Returns the path below the image folder; LVIS has only a URL, ending with the split's folder and the file
    name."""
    name, address = image.get("file_name"), image.get("coco_url")
    if isinstance(name, str):
        return name
    try:
        return "/".join(urlsplit(address).path.split("/")[-2:]) if isinstance(address, str) else None
    except ValueError:  # not a URL
        return None


def is_possible(name: str) -> bool:
    """Returns whether a file can have this name."""
    try:
        return bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False
