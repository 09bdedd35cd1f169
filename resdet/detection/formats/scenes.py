"""Reads the images of a split with their objects one at a time; a COCO file takes about its size in memory."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resdet.detection.data.coco import LISTS, open_coco
from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.share_classes import Content
from resdet.detection.formats.writer import gather
from resdet.files.json_columns import JsonTexts, compact, read_columns


class Scenes:
    """N images with their objects, as dicts in COCO's format with absolute paths as `file_name`."""

    def __init__(self, content: Content, images: np.ndarray, objects: np.ndarray, starts: np.ndarray):
        """`images` [N]: rows of content["images"]. The rows of image i's objects in content["annotations"] are
        objects[starts[i] : starts[i + 1]]."""
        self.content, self.images, self.rows, self.starts = content, images, objects, starts

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> dict[int, str]:
        """Class names by id."""
        return {category["id"]: category["name"] for category in self.content["categories"]}

    def image(self, i: int) -> dict[str, Any]:
        entry: dict[str, Any] = self.content["images"][self.images[i]]
        return entry

    def objects(self, i: int) -> list[dict[str, Any]]:
        return [self.content["annotations"][row] for row in self.rows[self.starts[i] : self.starts[i + 1]].tolist()]

    def texts(self, file_names: Mapping[int, str]) -> Iterator[str]:
        """Yields the text of a COCO file in parts, restricted to the images in `file_names` and their objects."""
        images = (compact(self.image(i) | {"file_name": file_names[i]}) for i in sorted(file_names))
        kept = np.zeros(len(self), bool)
        kept[list(file_names)] = True
        rows = np.sort(self.rows[np.repeat(kept, np.diff(self.starts))]).tolist()
        lists = {"images": images, "annotations": (compact(self.content["annotations"][row]) for row in rows)}
        before = "{"
        for key, value in self.content.items():
            yield f"{before}{compact(key)}:"
            yield from _joined(lists[key]) if key in lists else [compact(value)]
            before = ","
        yield "}"


def _joined(entries: Iterator[str]) -> Iterator[str]:
    before = "["
    for entry in entries:
        yield before + entry
        before = ","
    yield "[]" if before == "[" else "]"


class FileScenes(Scenes):
    """Usable images and objects of a COCO file; image sizes are never missing."""

    def __init__(self, file: Path, folder: Path):
        source = open_coco(file, folder)
        arrays = source.arrays
        content = read_columns(file, LISTS, JsonTexts)
        super().__init__(content, arrays["image_rows"], arrays["object_rows"], arrays["starts"])
        self.source = source

    def image(self, i: int) -> dict[str, Any]:
        width, height = self.source.sizes[i].tolist()
        path = str(Path(self.source.name(i)).absolute())
        return super().image(i) | {"width": width, "height": height, "file_name": path}


def of_content(content: Content) -> Scenes:
    """Creates scenes from a valid COCO dict."""
    rows = {image["id"]: row for row, image in enumerate(content["images"])}
    owners = np.array([rows[entry["image_id"]] for entry in content["annotations"]], np.int64)
    starts = np.append(0, np.cumsum(np.bincount(owners, minlength=len(rows))))
    return Scenes(content, np.arange(len(rows)), np.argsort(owners, kind="stable"), starts)


def scenes_of(data: DataSet) -> dict[str, Callable[[], Scenes]]:
    """Returns {split: function that opens its scenes} for a data set."""
    if data.layout.as_is:
        return {split: partial(FileScenes, *data.layout.coco_file(split)) for split in data.splits}
    return {split: partial(of_content, content) for split, content in gather(data).items()}


def problems_of(data: DataSet) -> list[str]:
    """Returns sentences on the entries that the scenes skip."""
    if data.layout.as_is:
        return [sentence for split in data.splits for sentence in data.open(split).problems]
    return data.problems
