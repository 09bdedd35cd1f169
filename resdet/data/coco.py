"""COCO and LVIS annotation files: one JSON, read once and kept as an index."""

from collections.abc import Iterable, Iterator
from itertools import compress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from resdet.data.annotations import Annotations
from resdet.data.found import LARGEST, Found, OnBad, Problems, compile_found, read_json, size_of
from resdet.data.index import Arrays, cached
from resdet.errors import DataError

REQUIRED = ("images", "annotations", "categories")
Entry = dict[str, Any]


def open_coco(
    annotations: Path | str, images: Path | str, on_bad: OnBad = "skip", cache_dir: Path | None = None
) -> Annotations:
    """The images in the folder `images` with the objects that the file `annotations` tells, of COCO or of LVIS.

    Labels follow the order of the category ids. What is wrong with an entry is an error, or the entry is left out and
    counted in `problems`. The first start compiles the file (`resdet.data.index.cached`); the next ones map the result.
    """
    file = Path(annotations)
    arrays = cached(f"coco-{on_bad}", [file], lambda: _compile(file, Path(images), on_bad), cache_dir)
    return Annotations(arrays, images, file)


def _compile(file: Path, folder: Path, on_bad: OnBad) -> Arrays:
    content = _read(file)
    problems = Problems(file, on_bad)
    classes = _classes(content["categories"], file)
    images, position = _images(content["images"], folder, problems)
    known = {entry["id"] for entry in content["images"] if isinstance(entry, dict) and _is_whole(entry.get("id"))}
    annotations = _annotations(content["annotations"], known, classes, problems)
    annotations = [entry for entry in annotations if entry["image_id"] in position]  # others went with their images
    labels = {number: label for label, number in enumerate(classes)}
    found = Found(
        files=[_file_name(image) for image in images],
        sizes=[_size(image) for image in images],
        images=[position[entry["image_id"]] for entry in annotations],
        boxes=[_corners(*entry["bbox"]) for entry in annotations],
        labels=[labels[entry["category_id"]] for entry in annotations],
        names=[entry["id"] for entry in annotations],
        image_ids=[image["id"] for image in images],
        crowd=[bool(entry.get("iscrowd")) for entry in annotations],
        segmentations=[entry.get("segmentation") for entry in annotations],
    )
    return compile_found(found, classes, problems, "annotation")


def _read(file: Path) -> dict[str, list]:
    content = read_json(file)
    for key in REQUIRED:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f'{file} has no list "{key}": it is not a COCO annotation file, which has {", ".join(REQUIRED)} '
                f"(empty lists are fine)"
            )
    return content


def _classes(categories: list[Entry], file: Path) -> dict[int, str]:
    """The names by rising id. A file whose categories are in doubt cannot be used at all."""
    classes = {}
    for category in categories:
        if not isinstance(category, dict) or not _is_whole(category.get("id")) or "name" not in category:
            raise DataError(f"{file}: the category {category} has no whole number as id or no name: add them")
        if category["id"] in classes:
            raise DataError(f"{file}: two categories have the id {category['id']}: give each its own")
        classes[category["id"]] = str(category["name"])
    return dict(sorted(classes.items()))


def _images(entries: list[Entry], folder: Path, problems: Problems) -> tuple[list[Entry], dict[int, int]]:
    """The images that can be used, each with width and height, and where in the list each id is."""
    sound = Sieve(entries, "image", problems)
    sound.keep((_is_whole(image.get("id")) for image in sound.entries), "no whole number as id")
    sound.keep(_first_of(image["id"] for image in sound.entries), "an id that another image has")
    sound.keep((_file_name(image) is not None for image in sound.entries), "neither file_name nor coco_url")
    sound.entries = [image if _size(image) else _measured(image, folder) for image in sound.entries]
    sound.keep((_size(image) is not None for image in sound.entries), "no width and height, nor a readable file")
    return sound.entries, {image["id"]: i for i, image in enumerate(sound.entries)}


def _annotations(entries: list[Entry], images: set[int], classes: dict[int, str], problems: Problems) -> list[Entry]:
    sound = Sieve(entries, "annotation", problems)
    sound.keep((_is_whole(entry.get("id")) for entry in sound.entries), "no whole number as id")
    sound.keep(_first_of(entry["id"] for entry in sound.entries), "an id that another annotation has")
    sound.keep(_among(sound.entries, "image_id", images), "an image_id that no image has")
    sound.keep(_among(sound.entries, "category_id", classes), "a category_id that no category has")
    sound.keep((_is_box(entry.get("bbox")) for entry in sound.entries), "no bbox of four numbers")
    return sound.entries


class Sieve:
    """Entries of a file, of which each test leaves those that pass it and reports the others."""

    def __init__(self, entries: list[Any], noun: str, problems: Problems):
        self.noun, self.problems = noun, problems
        self.entries: list[Entry] = [entry if isinstance(entry, dict) else {} for entry in entries]

    def keep(self, passed: Iterable[bool], what: str) -> None:
        """Those of the others have `what`."""
        passed = list(passed)
        if all(passed):
            return
        failed = [str(entry.get("id", "without id")) for entry, good in zip(self.entries, passed) if not good]
        self.problems.leave_out(self.noun, failed, what)
        self.entries = list(compress(self.entries, passed))


def _first_of(ids: Iterable[int]) -> Iterator[bool]:
    seen = set()
    for number in ids:
        yield number not in seen
        seen.add(number)


def _among(entries: list[Entry], key: str, ids: Iterable[int]) -> Iterator[bool]:
    return (_is_whole(entry.get(key)) and entry[key] in ids for entry in entries)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(number, (int, float)) for number in value)


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x, y, x + width, y + height


def _file_name(image: Entry) -> str | None:
    """Below the folder of the images; LVIS has the address alone, whose end is a split's folder and the file."""
    name, address = image.get("file_name"), image.get("coco_url")
    if isinstance(name, str):
        return name
    return "/".join(urlsplit(address).path.split("/")[-2:]) if isinstance(address, str) else None


def _size(image: Entry) -> tuple[int, int] | None:
    size = image.get("width"), image.get("height")
    return size if all(_is_whole(side) and 0 < side < LARGEST for side in size) else None


def _measured(image: Entry, folder: Path) -> Entry:
    """With the size that the file itself tells, where it can be read."""
    size = size_of(folder / _file_name(image))
    return image | {"width": size[0], "height": size[1]} if size else image
