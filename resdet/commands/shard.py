"""`resdet data shard`: writes a detection or classification data set as tar files in WebDataset's convention."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resdet.classification.data import shards as of_images
from resdet.classification.data.config import FolderConfig
from resdet.classification.data.imagenet import ARCHIVES, imagenet
from resdet.data import output_folder
from resdet.data.shards import Limit, Shard
from resdet.detection.formats import write_shards as of_scenes
from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.registry import recognize
from resdet.detection.formats.scenes import problems_of, scenes_of
from resdet.errors import DataError, number_of
from resdet.images.decode import EncodedSource

NAMED = 3  # maximum number of omitted images that are listed by name


def shard(source: str, target: str, limit: Limit, task: str | None = None) -> dict[str, Any]:
    """Writes the data set `source` as shards; `task` is detection or classification, None: detected."""
    output_folder.check_target(target, source)
    root = Path(source)
    if task is None:
        task = _task_of(root)
    if task == "classification":
        images = _image_sources(root)
        return _summary(source, target, task, of_images.shard_images(Path(target), images, limit), [], [])
    data = DataSet(recognize(root))
    print(data.layout)
    written = of_scenes.shard_scenes(Path(target), scenes_of(data), limit)
    return _summary(source, target, task, written.shards, written.left_out, problems_of(data))


def _task_of(root: Path) -> str:
    """Returns the task of a folder: detection if it has annotations in a known format."""
    try:
        recognize(root)
    except DataError as no_annotations:
        try:
            _image_sources(root)
        except DataError as no_classes:
            raise DataError(
                f"{root} is neither a data set of detection ({no_annotations}) nor of classification ({no_classes})"
            ) from None
        return "classification"
    return "detection"


def _image_sources(root: Path) -> dict[str, EncodedSource]:
    """Returns the splits for classification: those of ImageNet's layouts, or of folder.yaml."""
    if any(root.glob(ARCHIVES["train"])) or (root / "ILSVRC/Data/CLS-LOC").is_dir():
        return {split: imagenet(root, split) for split in ("train", "val")}
    if of_images.has_shards(root / "train") and not (root / "val").is_dir():
        return {"train": of_images.open_folder(root, "train", "train")}
    data = FolderConfig(root=str(root))
    return {split: data.open(split) for split in ("train", "val")}


def _summary(
    source: str,
    target: str,
    task: str,
    shards: Mapping[str, Sequence[Shard]],
    left_out: list[str],
    problems: list[str],
) -> dict[str, Any]:
    """Prints and returns what was written, and the problems of the annotations."""
    for sentence in problems:
        print(sentence)
    images = {split: sum(len(each.members) for each in written) for split, written in shards.items()}
    size = sum(each.size for written in shards.values() for each in written)
    counts = ", ".join(
        f"{number_of(images[split], 'image')} of {split} (shards: {len(written)})" for split, written in shards.items()
    )
    name = "data.name=folder " if task == "classification" else ""
    print(f"{counts}, {size / 1e6:.1f} MB, in {target}; train on them with {name}data.root={target}")
    if left_out:
        print(f"left out {number_of(len(left_out), 'image')} that cannot be read: {'; '.join(left_out[:NAMED])}")
    return {
        "source": source,
        "root": target,
        "task": task,
        "images": images,
        "shards": {split: len(written) for split, written in shards.items()},
        "bytes": size,
        "left_out": left_out,
        "problems": problems,
    }
