"""Validation of COCO annotation files, shared by training and evaluation.

Training skips and counts invalid entries; evaluation rejects them.
"""

from typing import Any

import numpy as np

from resdet.detection.data.validation import Records, Report, numbers, refuse, whole_numbers
from resdet.errors import DataError
from resdet.files.json_columns import JsonColumns
from resdet.images.decode import MAX_PIXELS

REQUIRED = ("images", "annotations", "categories")
LARGEST = 2**24  # largest image side; float32 is exact for integers up to this


class CocoFile:
    """Content of a file as columns; `images.valid` and `annotations.valid` mark usable entries.

    Problems in these entries go to `report`; problems in categories raise DataError.
    """

    def __init__(self, content: Any, file: str, report: Report):
        require_lists(content, file)
        self.classes = _classes(Records(content["categories"], "category", refuse(file)))
        self.images = Records(content["images"], "image", report)
        self.image_ids = self.images.whole("id")  # int64 [N]
        self.images.require_unique(self.image_ids)
        self.sizes = self.images.column(sizes_of, "width", "height")
        self.annotations = Records(content["annotations"], "annotation", report)
        self.owners = self.annotations.whole("image_id")  # int64 [M]
        self.categories = self.annotations.whole("category_id")  # int64 [M]
        self.in_images = np.isin(self.owners, self.image_ids)  # bool [M]
        self.in_categories = np.isin(self.categories, list(self.classes))  # bool [M]

    def check_objects(self) -> None:
        """Reads boxes, areas and crowd flags of valid annotations; callers may first exclude annotations of unknown
        images or categories."""
        self.boxes = self.annotations.boxes()  # float64 [M, 4]: x, y, width, height
        self.areas = self._areas()  # float64 [M]
        self.crowd = self._crowd()  # bool [M]

    def rows(self) -> np.ndarray:
        """Returns the row of each annotation's image, int64 [M]; arbitrary for unknown images."""
        if not len(self.images):
            return np.zeros(len(self.annotations), np.int64)
        order = np.argsort(self.image_ids, kind="stable")
        return order[np.searchsorted(self.image_ids[order], self.owners).clip(max=len(order) - 1)]

    def _areas(self) -> np.ndarray:
        """Returns the areas in the file, or those of the boxes where missing."""
        both = self.annotations.column(_numbers_or_none, "area")
        areas, numeric, missing = both.T
        good = (numeric > 0) & np.isfinite(areas) & (areas >= 0)
        self.annotations.require(good, "no number, 0 or more, as area", "area")
        with np.errstate(over="ignore"):
            of_boxes = np.minimum(self.boxes[:, 2] * self.boxes[:, 3], np.finfo(np.float64).max)
        return np.where(missing > 0, of_boxes, areas)

    def _crowd(self) -> np.ndarray:
        crowd = self.annotations.column(_flags, "iscrowd")
        self.annotations.require((crowd == 0) | (crowd == 1), "an iscrowd that is neither 0 nor 1", "iscrowd")
        return crowd == 1


def _numbers_or_none(values: list[Any]) -> np.ndarray:
    """Returns float64 [n, 3]: the number, 0 for None; whether it is a number or None; whether it is None."""
    parsed, numeric = numbers([0 if value is None else value for value in values])
    return np.stack([parsed, numeric, np.array([value is None for value in values], bool)], 1)


def _flags(values: list[Any]) -> np.ndarray:
    """Returns int64 [n]: 0 for None, negative where invalid."""
    return whole_numbers([int(flag or 0) if flag is None or isinstance(flag, bool) else flag for flag in values])


def require_lists(content: Any, file: str) -> None:
    """Raises DataError if the content is that of another kind of file."""
    for key in REQUIRED:
        if not isinstance(content, dict) or not isinstance(content.get(key), (list, tuple, JsonColumns)):
            raise DataError(
                f'{file} has no list "{key}": it is not a COCO annotation file, which has {", ".join(REQUIRED)} '
                f"(empty lists are fine)."
            )


def objects_by_image(content: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """Returns the annotations of each image id, from valid content."""
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        objects[entry["image_id"]].append(entry)
    return objects


def is_text(value: Any) -> bool:
    """Returns whether the value is a string that can be encoded as UTF-8; false for unpaired surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_categories(categories: Records) -> np.ndarray:
    """Returns the ids, int64 [C]; reports invalid and repeated ids, and names that are not text."""
    ids = categories.whole("id")
    categories.require_unique(ids)
    names = categories.values("name")
    categories.require(np.array([is_text(name) for name in names], bool), "no text as name", "name")
    return ids


def _classes(categories: Records) -> dict[int, str]:
    """Returns names by ascending id."""
    return dict(sorted(zip(check_categories(categories).tolist(), categories.values("name"))))


def sizes_of(widths: list[Any], heights: list[Any]) -> np.ndarray:
    """Returns int64 [n, 2]: width and height; 0 if missing, -1 if impossible."""
    sides = [whole_numbers([0 if side is None else side for side in declared]) for declared in (widths, heights)]
    sizes = np.stack(sides, 1)
    impossible = ((sizes < 0) | (sizes >= LARGEST)).any(1) | (sizes.clip(0, LARGEST).prod(1) >= MAX_PIXELS)
    sizes[impossible] = -1
    return sizes
