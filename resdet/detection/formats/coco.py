"""COCO's format: JSON files with images, annotations and categories; also LVIS, and the exports of Roboflow, CVAT,
Label Studio and FiftyOne."""

import json
import mmap
import re
from collections.abc import Sequence
from typing import Any

from resdet.detection.data.coco import file_name
from resdet.detection.data.coco_file import REQUIRED
from resdet.detection.formats.folder import Folder, split_in, split_of
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.detection.formats.reading import Reading
from resdet.files.json_file import read_json

NAMES = [re.compile(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")' % key) for key in (b"file_name", b"coco_url")]
SAMPLE = 5  # image names that are searched to find the image folder


class Coco:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        candidates = folder.having(".json")
        names = {file: found for file in candidates if (found := _image_names(folder, file)) is not None}
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
        return Layout("coco", folder, splits, ", ".join(split.annotations[0] for split in splits.values()) + also)

    def read(self, layout: Layout, split: str, reading: Reading) -> dict[str, Any]:
        files = layout.splits[split]
        content = read_json(layout.root / files.annotations[0])
        images = content["images"] if isinstance(content, dict) and isinstance(content.get("images"), list) else []
        for image in images:
            name = file_name(image) if isinstance(image, dict) else None
            if name:
                image["file_name"] = f"{files.image_folder}/{name}" if files.image_folder else name
        return content


def _image_names(folder: Folder, file: str) -> list[bytes] | None:
    """The images' names as JSON strings, without parsing the file; None if it is not in COCO's format."""
    try:
        with open(folder.root / file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if any(data.find(f'"{key}"'.encode()) < 0 for key in REQUIRED):
                return None
            return next(filter(None, (pattern.findall(data) for pattern in NAMES)), [])
    except (OSError, ValueError):  # ValueError: an empty file
        return None


def _image_folder(folder: Folder, file: str, split: str, names: Sequence[bytes]) -> str:
    """The folder below which the files have their names, by the first images; the folder of the JSON file if none is
    there."""
    for text in names[:SAMPLE]:
        name = _name(text)
        found = folder.locate(name, file, split) if name else None
        if found and (found == name or found.endswith(f"/{name}")):
            return found[: len(found) - len(name)].rstrip("/")
    return file.rpartition("/")[0]


def _name(string: bytes) -> str:
    """A name, or the end of a URL, as the reader of COCO files takes it."""
    try:
        text = json.loads(string)
    except ValueError:
        return ""
    return file_name({"coco_url" if "://" in text else "file_name": text}) or ""
