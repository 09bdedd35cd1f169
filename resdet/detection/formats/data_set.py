"""Opens the splits of a recognized data set as annotations, with an index on disk."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from resdet.data.array_cache import Arrays, Strings, cached
from resdet.detection.data.annotations import Annotations, usable
from resdet.detection.data.coco import compile_coco, file_name, open_coco
from resdet.detection.data.compile_annotations import Measured, OnBad, Problems, file_states, unchanged
from resdet.detection.formats.collector import Collector
from resdet.detection.formats.layout import Layout
from resdet.detection.formats.registry import formats
from resdet.detection.formats.share_classes import Content, share_classes
from resdet.detection.formats.val_split import ValSplit, load_val_split
from resdet.errors import DataError
from resdet.files.json_file import read_json
from resdet.progress import Activity


@dataclass
class Loaded:
    """A split in COCO's format without unusable entries, and the problems and measured sizes from reading it."""

    content: Content
    problems: list[str]
    measured: Measured


@dataclass
class DataSet:
    """The splits of a layout; if `val` is missing, `ValSplit` selects its images from `train`."""

    layout: Layout
    on_bad: OnBad = "skip"
    keypoints: bool = True
    val_share: float = 0.2
    seed: int = 0

    @property
    def has_val(self) -> bool:
        return "val" in self.layout.splits

    def open(self, split: str) -> Annotations:
        """Opens `train`, `val` or `test`."""
        if split not in self.splits:
            raise DataError(f"{self.layout}, and has no {split} split: add its images and annotations.")
        if self.layout.as_is:
            return open_coco(*self.layout.coco_file(split), self.on_bad, keypoints=self.keypoints)
        return Annotations(self._index()[split], self.layout.root)

    def as_written(self, split: str) -> tuple[Content, Path] | None:
        """Returns a split's COCO file, including invalid entries, and its image folder; None for other formats, and for
        files with differing classes or without the paths of their images."""
        layout = self.layout
        if layout.as_is and split in layout.splits:
            file, folder = layout.coco_file(split)
            return read_json(file), folder
        if layout.format != "coco" or split == "test" or not self.val_split:
            return None
        content = formats["coco"]().read(layout, "train", Collector(layout.folder))
        return _divided_as_written(content, self.val_split)[split], layout.root

    @property
    def problems(self) -> list[str]:
        """Sentences on the entries that `loaded` skips."""
        return [sentence for loaded in self.loaded.values() for sentence in loaded.problems]

    @property
    def splits(self) -> list[str]:
        made = ["val"] if "train" in self.layout.splits and not self.has_val else []
        return [*self.layout.splits, *made]

    @cached_property
    def val_split(self) -> ValSplit | None:
        """The validation split of all images, from a file that the first access creates; None if the data set has a
        validation split."""
        if self.has_val or "train" not in self.layout.splits:
            return None
        val_split = load_val_split(self.layout.root) or ValSplit(self.val_share, self.seed)
        return val_split if val_split.state == self.state else self.assign(val_split)

    def assign(self, split: ValSplit) -> ValSplit:
        """Assigns the images missing from `split` and writes its file."""
        split.assign(self._compiled("train", self.loaded["train"]))
        split.state = self.state
        split.save(self.layout.root)
        return split

    @cached_property
    def state(self) -> str:
        """Fingerprint of the annotation files, the files of each split and the list of images."""
        layout = self.layout
        files = [*layout.shared, *(file for split in layout.splits.values() for file in split.annotations)]
        states = file_states(layout.root, files).tolist()
        names: list[str] = []
        for name, split in layout.splits.items():
            names += [f"split {name}", *split.annotations, "images", *split.images]
        names += ["shared", *layout.shared, "folder", *layout.folder.images]
        text = "\n".join(map(str, (*names, *states)))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @cached_property
    def loaded(self) -> dict[str, Loaded]:
        """The splits of the layout, with shared classes."""
        with Activity("reading the annotations"):
            loaded = {split: self._load(split) for split in self.layout.splits}
        ordered = bool(self.layout.classes) or self.layout.format == "coco"
        contents = share_classes([each.content for each in loaded.values()], ordered)
        for each, content in zip(loaded.values(), contents):
            each.content = content
        return loaded

    def contents(self) -> dict[str, Content]:
        """Returns all splits in COCO's format, including a generated validation split."""
        contents = {split: each.content for split, each in self.loaded.items()}
        return contents | self._divided(contents["train"]) if self.val_split else contents

    def _load(self, split: str) -> Loaded:
        collector = Collector(self.layout.folder, self.on_bad, self.keypoints)
        content = formats[self.layout.format]().read(self.layout, split, collector)
        collector.report()
        arrays = compile_coco(content, collector.problems, collector.measured, self.keypoints)
        return Loaded(usable(content, arrays), collector.problems.sentences, collector.measured)

    def _divided(self, content: Content) -> dict[str, Content]:
        """Divides the training images into `train` and `val`, according to the split file."""
        assert self.val_split
        sides = [("val" if self.val_split.is_val(image["file_name"]) else "train") for image in content["images"]]
        return {side: select_images(content, [assigned == side for assigned in sides]) for side in ("train", "val")}

    def _index(self) -> dict[str, Arrays]:
        layout, val_split = self.layout, self.val_split
        sides = sorted(val_split.images.items()) if val_split else []
        arrays = cached(
            f"{layout.format}-{self.on_bad}{'' if self.keypoints else '-boxes'}",
            [],
            lambda: dict(self._arrays()),
            state=[self.state, *sides],
            places=[layout.root],
            holds=lambda arrays: all(unchanged(of_split, layout.root) for of_split in _by_split(arrays).values()),
            home=layout.root,
        )
        return _by_split(arrays)

    def _arrays(self) -> Iterator[tuple[str, Any]]:
        """Yields the arrays of all splits, named SPLIT.NAME."""
        for split, content in self.contents().items():
            read = self.loaded.get(split) or Loaded(content, [], Measured(self.layout.root))
            for name, array in self._compiled(split, Loaded(content, read.problems, read.measured)).arrays.items():
                yield f"{split}.{name}", array

    def _compiled(self, split: str, loaded: Loaded) -> Annotations:
        root = self.layout.root
        problems = Problems(root, "skip")
        arrays = compile_coco(loaded.content, problems, loaded.measured, self.keypoints)
        return Annotations(arrays | Strings.pack(loaded.problems).arrays("problems"), root)


def select_images(content: Content, keep: list[bool]) -> Content:
    """Restricts the content to some of its images and their objects."""
    images = [image for image, kept in zip(content["images"], keep) if kept]
    ids = {image["id"] for image in images}
    return content | {
        "images": images,
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in ids],
    }


def _divided_as_written(content: Content, val_split: ValSplit) -> dict[str, Content]:
    """Divides a COCO file into `train` and `val`; entries without an image are in `train`."""
    number = lambda entry, key: entry.get(key) if isinstance(entry.get(key), (int, float)) else None
    of_val = [isinstance(image, dict) and val_split.is_val(file_name(image) or "") for image in content["images"]]
    ids = {number(image, "id") for image, is_val in zip(content["images"], of_val) if is_val}
    owned = [isinstance(entry, dict) and number(entry, "image_id") in ids for entry in content["annotations"]]
    part = lambda key, sides, side: [entry for entry, is_val in zip(content[key], sides) if is_val == side]
    return {
        name: content | {"images": part("images", of_val, side), "annotations": part("annotations", owned, side)}
        for name, side in (("train", False), ("val", True))
    }


def sample_images(content: Content, count: int, seed: int | None = None) -> Content:
    """Restricts the content to at most `count` images, chosen deterministically by a hash of seed and file name."""
    salt = "" if seed is None else f"{seed} "
    text = lambda image: salt + PurePath(file_name(image) or "").name
    key = lambda image: hashlib.sha256(text(image).encode("utf-8", "surrogateescape")).digest()
    chosen = {image["id"] for image in sorted(content["images"], key=key)[:count]}
    return select_images(content, [image["id"] in chosen for image in content["images"]])


def _by_split(arrays: Arrays) -> dict[str, Arrays]:
    by_split: dict[str, Arrays] = {}
    for key, array in arrays.items():
        split, _, name = key.partition(".")
        by_split.setdefault(split, {})[name] = array
    return by_split
