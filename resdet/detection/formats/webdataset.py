"""WebDataset's convention: tar files of images, each with a .json file of its objects.

The objects (`annotations` or `objects`) are COCO annotations with the class as `category` or `category_id`, or a dict
of lists with `bbox` and `category`, as in Hugging Face data sets. Boxes are x, y, width and height in pixels.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from resdet.data.tar_index import samples_in
from resdet.detection.formats.collector import Collector, number_in, size_in
from resdet.detection.formats.folder import Folder, split_in, split_of
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.errors import DataError, number_of
from resdet.files.remote import INDEX
from resdet.files.tar_member import Member, Place

SIDES = 4  # numbers per box
KEYS = ("annotations", "objects")  # keys of an image's objects
COPIED = ("segmentation", "iscrowd", "ignore", "difficult", "area")
CLASSES = ("category", "category_name", "class", "label", "category_id")  # keys of an object's class
LISTS = (*CLASSES, "categories", "labels")  # keys of the classes of all objects


class WebDataset:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        tars = folder.having(".tar")
        if not tars:
            return Unfit("no tar files")
        if any(file.rpartition("/")[2] == INDEX for file in folder.files):
            return Unfit(f"{INDEX} lists the shards, whose images the COCO files beside it name", len(tars))
        if not _has_objects(folder, tars[0]):
            return Unfit(f"no image with a .json file of objects at the start of {tars[0]}", len(tars))
        files: dict[str, list[str]] = {}
        for tar in tars:
            files.setdefault(split_of(tar.rpartition("/")[2]) or split_in(tar) or "train", []).append(tar)
        splits = {split: Split(tuple(names), annotated=len(names)) for split, names in files.items()}
        return Layout("webdataset", folder, splits, f"{number_of(len(tars), 'tar file')} of images with .json files")

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        for file in layout.splits[split].annotations:
            for entry, content in samples_in(layout.root / file):
                member = Member(file, Place(entry.offset_data, entry.size), entry.name.rpartition("/")[2])
                sides = (content.get("width"), content.get("height")) if isinstance(content, dict) else (None, None)
                image = collector.add_image(str(member), size_in(*sides))
                for number, item in enumerate(_objects(content)):
                    _add(collector, image, item, f"{file}:{entry.name}, object {number}")
        return collector.content()


def _has_objects(folder: Folder, tar: str) -> bool:
    """Returns whether the first image of a tar file has a list of objects."""
    try:
        _, content = next(samples_in(folder.root / tar), (None, None))
    except DataError:
        return False
    return isinstance(content, dict) and any(key in content for key in KEYS)


def _objects(content: Any) -> Iterator[Any]:
    """Yields the objects of an image as COCO annotations."""
    for given in (content.get(key) for key in KEYS) if isinstance(content, dict) else ():
        yield from _rows(given) if isinstance(given, dict) else given if isinstance(given, list) else []


def _rows(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the objects of a dict of lists; they lack a box or a class where a list is shorter or missing."""
    classes = next((columns[key] for key in LISTS if key in columns), None)
    lists = (values if isinstance(values, list) else [] for values in (columns.get("bbox"), classes))
    return ({"bbox": box, "category": name} for box, name in zip_longest(*lists))


def _add(collector: Collector, image: int, item: Any, place: str) -> None:
    name = next((item[key] for key in CLASSES if key in item), None) if isinstance(item, Mapping) else None
    box = item.get("bbox") if name is not None else None
    if not isinstance(box, list) or len(box) != SIDES:
        collector.leave_out("object", [place], "no class and bbox of four numbers")
        return
    x, y, width, height = map(number_in, box)
    more = {key: item[key] for key in COPIED if key in item}
    collector.add_object(image, str(name), (x, y, x + width, y + height), place, **more)
