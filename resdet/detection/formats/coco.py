"""COCO's format: JSON files with images, annotations and categories, including LVIS and the exports of Roboflow, CVAT,
Label Studio and FiftyOne."""

import json
import mmap
import os
import re
from collections.abc import Sequence
from typing import Any

from resdet.detection.data.coco import file_name
from resdet.detection.data.coco_file import REQUIRED
from resdet.detection.formats.collector import Collector
from resdet.detection.formats.folder import HEAD, Folder, split_in, split_of
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.errors import DataError
from resdet.files.json_file import read_json

NAMES = [re.compile(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")' % key) for key in (b"file_name", b"coco_url")]
BEGINNING = re.compile(rb'\s*\{\s*("info"|"licenses"|"images"|"annotations"|"categories")\s*:')
TAIL = 64  # bytes
CATEGORIES = re.compile(rb'"categories"\s*:\s*\[')
LARGEST_CATEGORIES = 2**24  # bytes
SAMPLE = 5  # image names searched to find the image folder


class Coco:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        candidates = folder.having(".json")
        names = {file: image_names for file in candidates if (image_names := _image_names(folder, file)) is not None}
        if not names:
            near = sum(b'"annotations"' in folder.head(file) for file in candidates[:SAMPLE])
            return Unfit("no JSON file with images, annotations and categories", near)
        chosen: dict[str, str] = {}
        for file in sorted(names, key=lambda file: ("instances" not in file, file)):  # before person_keypoints, stuff
            chosen.setdefault(split_of(file.rpartition("/")[2]) or split_in(file) or "train", file)
        splits = {}
        for split, file in chosen.items():
            images = _image_folder(folder, file, split, names[file])
            splits[split] = Split((file,), image_folder=images, annotated=len(names[file]))
        ignored = len(names) - len(chosen)
        also = f"; {ignored} other COCO files are not read" if ignored else ""
        same_classes = _have_same_classes(folder, [*chosen.values()])
        if not same_classes:
            also += f"; their categories differ: category ids are those of {next(iter(chosen.values()))}"
        evidence = ", ".join(split.annotations[0] for split in splits.values()) + also
        are_in_place = (
            _in_place(folder, split, content, names[content.annotations[0]]) for split, content in splits.items()
        )
        as_is = "val" in splits and same_classes and all(are_in_place)
        return Layout("coco", folder, splits, evidence, as_is=as_is)

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        files = layout.splits[split]
        content = read_json(layout.root / files.annotations[0])
        images = content["images"] if isinstance(content, dict) and isinstance(content.get("images"), list) else []
        for image in images:
            name = file_name(image) if isinstance(image, dict) else None
            if name:
                path = os.path.normpath(os.path.join(files.image_folder, name))
                is_there = layout.folder.has(path)
                image["file_name"] = path if is_there else _elsewhere(layout.folder, split, files, name) or path
        return content


def _image_names(folder: Folder, file: str) -> list[bytes] | None:
    """Returns the images' names as JSON strings, without parsing the file; None if it is not in COCO's format.

    Raises DataError for a truncated file in COCO's format, which would otherwise drop its split silently.
    """
    try:
        with open(folder.root / file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if any(data.find(f'"{key}"'.encode()) < 0 for key in REQUIRED):
                if BEGINNING.match(data[:HEAD]) and not data[-TAIL:].rstrip().endswith((b"}", b"]")):
                    raise DataError(f"{folder.root / file} is cut short: copy, export or download it again.")
                return None
            return next(filter(None, (pattern.findall(data) for pattern in NAMES)), [])
    except (OSError, ValueError):  # ValueError: an empty file
        return None


def _image_folder(folder: Folder, file: str, split: str, names: Sequence[bytes]) -> str:
    """Finds the folder that image names are relative to, by the first images; the JSON file's folder if none exists."""
    for text in names[:SAMPLE]:
        name = _name(text)
        image = folder.locate(name, file, split) if name else None
        if image and (image == name or image.endswith(f"/{name}")):
            return image[: len(image) - len(name)].rstrip("/")
    return file.rpartition("/")[0]


def _in_place(folder: Folder, split: str, files: Split, names: Sequence[bytes]) -> bool:
    """Returns whether all existing images are below the image folder, at the paths in the file."""
    start = f"{files.image_folder}/" if files.image_folder else ""
    plain = {start + string[1:-1].decode("utf-8", "replace"): string for string in names}
    others = (_name(plain[path]) for path in plain.keys() - folder.known)
    missing = (name for name in others if not folder.has(os.path.normpath(os.path.join(files.image_folder, name))))
    return not (folder.images and any(_elsewhere(folder, split, files, name) for name in missing))


def _elsewhere(folder: Folder, split: str, files: Split, name: str) -> str | None:
    """Locates an image that is missing at its path; None if there is none."""
    return None if "\0" in name else folder.locate(name, files.annotations[0], split)


def _have_same_classes(folder: Folder, files: Sequence[str]) -> bool:
    """Returns whether the files agree, except those with invalid categories, which the reader reports."""
    class_lists = [classes for file in files if (classes := _classes(folder, file))]
    return all(classes == class_lists[0] for classes in class_lists)


def _classes(folder: Folder, file: str) -> list[str]:
    """Returns ids, names and keypoints of the categories, without parsing the rest; empty if they are invalid."""
    with open(folder.root / file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = [match.end() - 1 for match in CATEGORIES.finditer(data)]
        text = data[starts[-1] : starts[-1] + LARGEST_CATEGORIES].decode("utf-8", "replace") if starts else ""
    try:
        categories, _ = json.JSONDecoder().raw_decode(text)
        are_unique = all(len({entry[key] for entry in categories}) == len(categories) for key in ("id", "name"))
        entries = [[entry[key] for key in ("id", "name")] + [entry.get("keypoints")] for entry in categories]
        return sorted(map(json.dumps, entries)) if are_unique else []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _name(string: bytes) -> str:
    """Decodes a name, or the end of a URL, as the reader of COCO files does."""
    try:
        text = json.loads(string)
    except ValueError:
        return ""
    return file_name({"coco_url" if "://" in text else "file_name": text}) or ""
