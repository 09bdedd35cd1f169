"""Writes data sets: image names, files, and a count of content that the format cannot express."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from resdet.data import output_folder
from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.folder import stem
from resdet.detection.formats.registry import PACKAGE
from resdet.detection.formats.share_classes import Content
from resdet.errors import number_of
from resdet.files.tar_member import exists, placeless
from resdet.registry import Registry


@dataclass
class Written:
    """State of writing a data set to `folder`; `lost` counts content that the format cannot express, by kind, and
    `missing` images without a file."""

    folder: Path
    missing: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)  # by split
    objects: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)

    def place(self, source: str, folder: str, spell: Callable[[str], str] = str) -> str:
        """Places an image in a folder below the root, as a hard link or, from a tar file, a copy; returns its new name,
        which `spell` makes valid in the format.

        Names without suffix are unique in the data set; duplicates get the names of their folders, then numbers.
        """
        parts = placeless(source).parts
        longer = ("_".join(part.strip("/") for part in parts[-size:]) for size in range(1, len(parts) + 1))
        numbered = (f"{number}_{parts[-1]}" for number in count(1))
        name = next(name for name in map(spell, chain(longer, numbered)) if stem(name).lower() not in self.names)
        self.names.add(stem(name).lower())
        output_folder.link(source, self.folder / folder / name)
        return name

    def losses(self, to: str) -> list[str]:
        """Returns sentences on content that the format `to` cannot express, and on images without a file."""
        sentences = [f"{to} cannot store {kind}: lost {count}" for kind, count in self.lost.items() if count]
        if self.missing:
            sentences.append(f"left out {number_of(self.missing, 'image')} without a file")
        return sentences


class Writer:
    """Writes one format."""

    def write(self, contents: Mapping[str, Content], written: Written) -> None:
        """Writes the splits, which share categories; `file_name`s are paths of existing files."""
        raise NotImplementedError


writers: Registry[type[Writer]] = Registry(
    "format that can be written",
    "--to",
    {
        "coco": f"{PACKAGE}.write_coco:CocoWriter",
        "yolo": f"{PACKAGE}.write_yolo:YoloWriter",
        "voc": f"{PACKAGE}.write_voc:VocWriter",
    },
)


def write_data_set(root: Path, contents: Mapping[str, Content], to: str) -> Written:
    """Writes the splits to the new folder `root`; skips and counts images without a file."""
    writer = writers[to]()
    written = Written(root)

    def write(folder: Path) -> None:
        written.folder = folder
        present = {split: _present(content, written) for split, content in contents.items()}
        for split, content in present.items():
            written.images[split], written.objects[split] = len(content["images"]), len(content["annotations"])
        writer.write(present, written)

    output_folder.refuse_filled(root)
    output_folder.create(root, write)
    return written


def gather(data: DataSet) -> dict[str, Content]:
    """Returns a data set's splits as training reads them, with absolute image paths and clipped boxes."""
    root = data.layout.root.absolute()
    absolute = lambda image: image | {"file_name": os.path.normpath(root / image["file_name"])}
    contents = data.contents()
    return {
        split: content | {"images": list(map(absolute, content["images"])), "annotations": _clipped(content)}
        for split, content in contents.items()
    }


def _clipped(content: Content) -> list[dict[str, Any]]:
    """Clips the annotations' boxes to their images."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    return [_clip(entry, *sizes[entry["image_id"]]) for entry in content["annotations"]]


def _clip(entry: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    x, y, w, h = entry["bbox"]
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    return entry if (x1, y1, x2, y2) == (x, y, x + w, y + h) else entry | {"bbox": [x1, y1, x2 - x1, y2 - y1]}


def _present(content: Content, written: Written) -> Content:
    images = [image for image in content["images"] if exists(image["file_name"])]
    ids = {image["id"] for image in images}
    written.missing += len(content["images"]) - len(images)
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    return content | {"images": images, "annotations": annotations}
