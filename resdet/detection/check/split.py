"""A split as in its annotation file, including invalid entries that training skips."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from resdet.detection.check.finding import LEFT_OUT, Finding
from resdet.detection.check.objects import ObjectTable
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.coco import file_name
from resdet.detection.data.coco_file import CocoFile, check_categories, require_lists
from resdet.detection.data.compile_annotations import size_of
from resdet.detection.data.config import ScenesConfig
from resdet.detection.data.validation import Records, brief
from resdet.errors import one_line
from resdet.files.json_file import read_json
from resdet.results.box_format import xywh_to_xyxy
from resdet.threads import map_in_threads

KIND_OF = {
    ("category", "id"): "category_id",
    ("category", "name"): "category_id",
    ("image", "id"): "image_id",
    ("annotation", "id"): "annotation_id",
    ("annotation", "image_id"): "unknown_image",
    ("annotation", "category_id"): "unknown_category",
    ("annotation", "bbox"): "box_invalid",
}


class Split:
    """N images and M annotations in rows of the file; `findings` result from reading it."""

    def __init__(self, name: str, content: dict[str, Any], folder: str, other_sizes: bool = False):
        """`content` is in COCO's format, with images in `folder`; `other_sizes`: see `Annotations`."""
        require_lists(content, f"the annotation file of {name}")
        self.name, self.content, self.folder, self.other_sizes = name, content, folder, other_sizes
        self.findings: list[Finding] = []
        self._numbers = np.zeros(0, np.int64)  # [M], numbers of the annotations in the index; empty if they have ids
        self._read_places: Callable[[], dict[str, str]] = dict
        self._reported: list[tuple[Records, np.ndarray, str, str | None]] = []
        report = lambda *reported: self._reported.append(reported)
        categories = Records(content["categories"], "category", report)
        check_categories(categories)
        usable = [entry for entry, valid in zip(categories.entries, categories.valid.tolist()) if valid]
        coco = CocoFile({**content, "categories": usable}, name, report)
        self.classes = coco.classes  # names by ascending id
        self.images, self.annotations = coco.images, coco.annotations
        self.image_ids = coco.image_ids
        self.files = [file_name(entry) or "" for entry in self.images.entries]
        self.images.require(np.array([name != "" for name in self.files], bool), "neither file_name nor coco_url")
        self.sizes = self._measured(coco.sizes)  # int64 [N, 2]: width, height; 0 where unknown
        self.images.require((self.sizes > 0).all(1), "no width and height, nor a readable file")
        self.annotations.require_unique(self.annotations.whole("id"))
        self.annotations.require(coco.in_images, "an image_id that no image has", "image_id")
        self.annotations.require(coco.in_categories, "a category_id that no category has", "category_id")
        self.owners = coco.rows()  # int64 [M]: row of the image
        self.owned, self.categorized = coco.in_images, coco.in_categories  # bool [M]: whether listed
        coco.check_objects()
        self.boxes = coco.boxes  # float64 [M, 4]: x, y, width, height, as written
        self.crowd = coco.crowd
        self.labels = np.searchsorted(list(self.classes), coco.categories)  # int64 [M]; arbitrary where invalid
        self._report()

    @classmethod
    def open(cls, name: str, data: ScenesConfig) -> "Split":
        """Opens a split of a config."""
        if written := data.coco_content(name):
            return cls(name, written[0], str(written[1]))
        source = replace(data, on_bad_annotation="skip").open(name)
        return cls.of(name, source, lambda: data.places(name))

    @classmethod
    def of(cls, name: str, source: Annotations, read_places: Callable[[], dict[str, str]] = dict) -> "Split":
        """Creates the split of opened annotations. For formats other than COCO, `Annotations.problems` describes
        entries that the reader skipped, and `read_places` is `ScenesConfig.places`."""
        if source.file:
            return cls(name, read_json(source.file), source.root)
        split = cls(name, source.to_coco(), source.root, source.other_sizes)
        split._numbers, split._read_places = source.arrays.get("numbers", np.zeros(0, np.int64)), read_places
        for sentence in source.problems:
            kind = "reader_clipped" if ": clipped " in sentence else LEFT_OUT
            split.findings.append(Finding(kind, name, sentence))
        return split

    def annotation_name(self, row: int) -> str:
        """Returns the place of an annotation in the files of a format without ids, such as labels/a.txt:3, or its
        id."""
        return self._places.get(row) or self.annotations.name(row)

    @cached_property
    def _places(self) -> dict[int, str]:
        """Places by row; reads the files again, at the first finding that names an annotation."""
        places = self._read_places()
        named = enumerate(map(str, self._numbers.tolist()))
        return {row: places[number] for row, number in named if number in places}

    def path(self, row: int) -> str:
        return os.path.join(self.folder, self.files[row])

    def paths(self) -> set[str]:
        return {os.path.normpath(self.path(row)) for row in range(len(self.files))}

    def usable_images(self) -> np.ndarray:
        """Returns the rows of images used in training, int64 [n]."""
        return np.flatnonzero(self.images.valid)

    def usable(self) -> np.ndarray:
        """Returns the rows of annotations used in training, int64 [m], by ascending image."""
        corners = self.corners()
        valid = self.annotations.valid & (corners[:, 2:] > corners[:, :2]).all(1)
        if len(self.files):
            valid &= self.images.valid[self.owners]
        rows = np.flatnonzero(valid)
        return rows[np.argsort(self.owners[rows], kind="stable")]

    def corners(self) -> np.ndarray:
        """Returns xyxy boxes clipped to their images, float64 [M, 4]; without area where invalid or outside."""
        boxes = np.where(self.annotations.valid[:, None], self.boxes, 0)
        limits = np.tile(self.sizes[self.owners] if len(self.sizes) else np.zeros((len(boxes), 2)), 2)
        return np.clip(xywh_to_xyxy(boxes), 0, limits)

    def objects(self) -> ObjectTable:
        rows = self.usable()
        return ObjectTable(
            self.sizes, self.owners[rows], self.corners()[rows], self.labels[rows], self.crowd[rows],
            list(self.classes.values()),
        )  # fmt: skip

    def finding(
        self, kind: str, sentence: str, image: int | None = None, rows: Iterable[int] = (), **values: Any
    ) -> Finding:
        """Creates a finding about an image and annotations, given by their rows."""
        rows = tuple(int(row) for row in rows)
        ids = tuple(_id(self.annotations.entries[row]) for row in rows)
        file = None if image is None else self.files[image]
        return Finding(
            kind, self.name, one_line(sentence), file, ids, values, None if image is None else int(image), rows
        )

    def of_object(self, kind: str, row: int, sentence: str, *others: int, **values: Any) -> Finding:
        """Creates a finding about an annotation, and possibly others in the same image."""
        image = int(self.owners[row]) if len(self.files) and self.owned[row] else None
        return self.finding(kind, sentence, image, (row, *others), **values)

    def _measured(self, sizes: np.ndarray) -> np.ndarray:
        unknown = np.flatnonzero(self.images.valid & ~(sizes > 0).all(1)).tolist()
        measured = map_in_threads(lambda row: size_of(self.path(row)), unknown, "reading image sizes")
        sizes = sizes.clip(min=0)
        for row, size in zip(unknown, measured):
            sizes[row] = size or (0, 0)
        return sizes

    def _report(self) -> None:
        """Creates findings for the entries that validation rejects."""
        for records, rows, problem, key in self._reported:
            kind = KIND_OF.get((records.noun, key or ""), f"{records.noun}_invalid")
            for row in rows.tolist():
                value = f" ({brief(records.entries[row][key])})" if key in records.entries[row] else ""
                sentence = f"{records.noun} {records.name(row)} has {problem}{value}"
                self.findings.append(self._invalid(records.noun, kind, row, sentence))

    def _invalid(self, noun: str, kind: str, row: int, sentence: str) -> Finding:
        if noun == "category":
            return self.finding(kind, sentence, category=_id(self.content["categories"][row]))
        if noun == "image":
            return self.finding(kind, sentence, row)
        negative = kind == "box_invalid" and np.isfinite(self.boxes[row]).all()
        return self.of_object("box_inverted" if negative else kind, row, sentence)


def _id(entry: Any) -> Any:
    """Returns the id of an entry as a JSON value."""
    number = entry.get("id") if isinstance(entry, dict) else None
    return number if isinstance(number, (int, str, float)) else None if number is None else brief(number)


def name_list(names: Sequence[str], limit: int = 5) -> str:
    """Joins the first names, followed by … if there are more."""
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
