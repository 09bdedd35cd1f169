"""Writes a detection data set as shards; see resdet.data.shards."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resdet.data import output_folder
from resdet.data.shards import Limit, Sample, Shard, suffix_of, write_index, write_shards
from resdet.detection.formats.scenes import Scenes
from resdet.errors import DataError
from resdet.files.atomic import write_parts
from resdet.files.json_columns import compact
from resdet.images.decode import read_image

ANNOTATIONS = "annotations.json"


@dataclass
class Sharded:
    """Written shards of each split, and errors of omitted images."""

    shards: dict[str, list[Shard]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def shard_scenes(root: Path, splits: Mapping[str, Callable[[], Scenes]], limit: Limit) -> Sharded:
    """Writes the splits to the new folder `root`, one by one."""
    written = Sharded()

    def write(folder: Path) -> None:
        for split, opened in splits.items():
            written.shards[split] = _write_split(folder / split, opened(), limit, written.left_out)

    output_folder.refuse_filled(root)
    output_folder.create(root, write)
    return written


def _write_split(folder: Path, scenes: Scenes, limit: Limit, left_out: list[str]) -> list[Shard]:
    names = scenes.names

    def sample(i: int) -> Sample | None:
        image = scenes.image(i)
        try:
            encoded = read_image(image["file_name"], "restore it")
            encoded.size  # noqa: B018  rejects damaged images
        except DataError as error:
            left_out.append(str(error))
            return None
        annotations = [entry | {"category": names[entry["category_id"]]} for entry in scenes.objects(i)]
        label = image | {"file_name": os.path.basename(image["file_name"]), "annotations": annotations}
        return Sample(bytes(encoded.data), suffix_of(image["file_name"]), (".json", compact(label).encode()))

    shards = write_shards(folder, len(scenes), sample, limit)
    members = {i: str(member) for shard in shards for i, member in shard.members.items()}
    write_parts(folder / ANNOTATIONS, scenes.texts(members))
    write_index(folder, shards, folder / ANNOTATIONS, "detection", list(names.values()))
    return shards
