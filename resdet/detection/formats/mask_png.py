"""Instance masks: one PNG per image, in a mask folder, with pixels of 0 or the number of their object.

An example is Penn-Fudan's pedestrians. The class is `object`, or the only line of classes.txt.
"""

import struct
from typing import Any

import numpy as np

from resdet.detection.formats.collector import Collector, read_text
from resdet.detection.formats.folder import Folder, by_split, split_in, stem
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.detection.formats.shapes import rle_of
from resdet.errors import DataError, number_of
from resdet.images.decode import map_image

FOLDERS = ("mask", "instance")  # parts of the names of mask folders
ENDINGS = ("_mask", "_instance", "_instances", "_instanceids", "")
MOST = 1000  # objects per image
CLASSES = "classes.txt"


class MaskPng:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        masks = [image for image in folder.images if _is_mask(image)]
        pairs = _pairs(folder, masks)
        if not pairs:
            return Unfit("no PNG in a folder of masks with the name of an image", len(masks))
        problem = _mismatch(folder, next(iter(pairs.values())))
        if problem:
            return Unfit(problem, len(masks))
        splits = {
            split: Split(tuple(pairs[image] for image in images), tuple(images), annotated=len(images))
            for split, images in by_split(pairs).items()
        }
        names = [line.strip() for line in read_text(folder, CLASSES).splitlines() if line.strip()]
        if len(names) > 1:
            return Unfit(f"{CLASSES} has {len(names)} classes, and instance masks number objects", len(masks))
        classes = names or ["object"]
        shared = (CLASSES,) if folder.has(CLASSES) else ()
        evidence = f"{number_of(len(pairs), 'mask')} such as {masks[0]}"
        return Layout("mask_png", folder, splits, evidence, classes, shared)

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        files = layout.splits[split]
        for image, mask in zip(files.images, files.annotations):
            pixels = read_instances(layout.folder, mask)
            if pixels is None:
                collector.leave_out("image", [image], "a mask that is no PNG of gray values or a palette")
                continue
            values = np.unique(pixels[pixels > 0]).tolist()
            if len(values) > MOST:
                collector.leave_out("image", [image], f"a mask of more than {MOST} objects")
                continue
            height, width = pixels.shape
            number = collector.add_image(image, (width, height))
            for value in values:
                inside = pixels == value
                rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
                box = [int(side) for side in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
                collector.add_object(number, layout.classes[0], box, f"{value} in {mask}", segmentation=rle_of(inside))
        return collector.content(layout.classes)


def read_instances(folder: Folder, file: str) -> np.ndarray | None:
    """Returns the object number of each pixel [H, W]; None for images that are neither grayscale nor paletted."""
    from PIL import Image

    try:
        map_image(folder.root / file, "restore it").size  # noqa: B018  rejects damaged and huge images
        with Image.open(folder.root / file) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                return None
            return np.array(image).astype(np.int64)
    except (DataError, OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError):
        return None


def _is_mask(image: str) -> bool:
    folders, name = image.lower().split("/")[:-1], image.lower()
    return name.endswith(".png") and any(part in parent for parent in folders[-2:] for part in FOLDERS)


def _pairs(folder: Folder, masks: list[str]) -> dict[str, str]:
    """Maps images to masks with the same name, without a mask ending; masks are not images themselves."""
    pictures = Folder(folder.root, [image for image in folder.images if not _is_mask(image)])
    pairs: dict[str, str] = {}
    for mask in masks:
        name = stem(mask.rpartition("/")[2])
        ending = next(ending for ending in ENDINGS if name.lower().endswith(ending))
        image = pictures.locate(name[: len(name) - len(ending)], mask, split_in(mask))
        if image:
            pairs.setdefault(image, mask)
    return dict(sorted(pairs.items()))


def _mismatch(folder: Folder, mask: str) -> str | None:
    pixels = read_instances(folder, mask)
    if pixels is None:
        return f"{mask} has colors: each pixel must be the number of its object"
    count = len(np.unique(pixels))
    return None if count <= MOST else f"{mask} has {count} values, which are too many for objects"
