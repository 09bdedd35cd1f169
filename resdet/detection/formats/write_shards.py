"""Writes a data set of detection as shards: see resdet.data.shards."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdet.data import generated
from resdet.data.shards import Limit, Sample, Shard, suffix_of, write_index, write_shards
from resdet.detection.data.coco_file import objects_by_image
from resdet.detection.formats.share_classes import Content
from resdet.errors import DataError
from resdet.files.atomic import write_text
from resdet.images.decode import read_image

ANNOTATIONS = "annotations.json"


@dataclass
class Sharded:
    """What was written: the shards of each split, and the errors of images that were left out."""

    shards: dict[str, list[Shard]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def shard_scenes(root: Path, contents: Mapping[str, Content], limit: Limit) -> Sharded:
    """Writes the splits, whose `file_name`s are absolute paths, to the new folder `root`."""
    written = Sharded()

    def write(folder: Path) -> None:
        for split, content in contents.items():
            written.shards[split] = _write_split(folder / split, content, limit, written.left_out)

    generated.refuse_filled(root)
    generated.create(root, write)
    return written


def _write_split(folder: Path, content: Content, limit: Limit, left_out: list[str]) -> list[Shard]:
    images, objects = content["images"], objects_by_image(content)
    names = {category["id"]: category["name"] for category in content["categories"]}

    def sample(i: int) -> Sample | None:
        image = images[i]
        try:
            encoded = read_image(image["file_name"], "restore it")
            encoded.size  # noqa: B018  refuses damaged images
        except DataError as error:
            left_out.append(str(error))
            return None
        found = [entry | {"category": names[entry["category_id"]]} for entry in objects[image["id"]]]
        label = image | {"file_name": os.path.basename(image["file_name"]), "annotations": found}
        return Sample(bytes(encoded.data), suffix_of(image["file_name"]), (".json", _packed(label).encode()))

    shards = write_shards(folder, len(images), sample, limit)
    member_of = {i: member for shard in shards for i, member in shard.members.items()}
    kept = {images[i]["id"] for i in member_of}
    placed = [image | {"file_name": str(member_of[i])} for i, image in enumerate(images) if i in member_of]
    entries = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    write_text(folder / ANNOTATIONS, _packed(content | {"images": placed, "annotations": entries}))
    write_index(folder, shards, folder / ANNOTATIONS, "detection", list(names.values()))
    return shards


def _packed(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))
