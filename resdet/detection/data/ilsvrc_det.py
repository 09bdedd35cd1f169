"""ILSVRC object detection in its official layout: 200 classes, train, val, and R-CNN's halves of val (appendix B).

The root is the folder ILSVRC or its parent, with Annotations/DET/{train,val}/**.xml, Data/DET/{train,val}/**.JPEG,
ImageSets/DET/*.txt and optionally the development kit's blacklist. After editing XML files in place, remove the cache
Annotations/DET/.resdet.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from resdet.data.array_cache import Arrays, cached
from resdet.detection.data.annotations import Annotations, concatenate
from resdet.detection.data.compile_annotations import Measured, OnBad, Problems, unchanged
from resdet.detection.data.ilsvrc_classes import DET
from resdet.detection.data.voc import compile_records, read_records
from resdet.errors import DataError

BLACKLIST = "*_det_validation_blacklist.txt"
SPLITS = ("train", "val", "val1", "val2")


def open_ilsvrc_det(root: Path | str, split: str, on_bad: OnBad = "skip") -> Annotations:
    """Opens a split (train, val, val1, val2), or several such as "train+val1", the paper's training set.

    train contains all images with an XML file, and the negatives without one, which have only -1 in the lists
    `train_*.txt`. val1 and val2 need the lists of R-CNN's split, val1.txt and val2.txt, in ImageSets/DET.
    """
    home = home_of(root, "DET")
    parts = split.split("+")
    for part in parts:
        if part not in SPLITS:
            raise DataError(f"ILSVRC DET has no split {part}: choose from {', '.join(SPLITS)}, or several joined by +.")
    return concatenate([_open(home, part, on_bad) for part in parts])


def home_of(root: Path | str, task: Literal["DET", "VID"], remedy: str = "") -> Path:
    """Finds the folder with a task's Annotations, Data and ImageSets: `root`, or ILSVRC or ILSVRC2015 in it.

    `remedy`: an alternative to unpacking the archive, for the error message.
    """
    for place in (Path(root) / "ILSVRC", Path(root) / "ILSVRC2015", Path(root)):
        if (place / "Annotations" / task).is_dir():
            return place
    missing = f"{root} has no folder Annotations/{task} or ILSVRC/Annotations/{task}"
    raise DataError(f"{missing}: unpack ILSVRC {task} there{remedy}.")


def _open(home: Path, split: str, on_bad: OnBad) -> Annotations:
    folder = "train" if split == "train" else "val"
    annotations, images = home / "Annotations/DET" / folder, home / "Data/DET" / folder
    lists = _lists(home / "ImageSets/DET", split)

    def read(problems: Problems, measured: Measured) -> Arrays:
        marks = marks_in(lists)
        stems = sorted({*marks, *_stems_below(annotations)}) if split == "train" else list(marks)
        negatives = frozenset(stem for stem, values in marks.items() if values == {"-1"})
        records = read_records(annotations, measured, stems, jpeg, 0, problems, negatives)
        return compile_records(records, DET, problems)

    source = open_indexed(f"ilsvrc-det-{split}", annotations, images, lists, read, on_bad)
    if split != "train":
        source.arrays["blacklist"] = _blacklist(home, source)
    return source


def open_indexed(
    key: str,
    annotations: Path,
    images: Path,
    lists: Sequence[Path],
    read: Callable[[Problems, Measured], Arrays],
    on_bad: OnBad,
) -> Annotations:
    """Opens cached arrays; calls `read` to create them if the cache is out of date."""

    def build() -> Arrays:
        problems, measured = Problems(annotations, on_bad), Measured(images)
        return read(problems, measured) | measured.arrays()

    holds = lambda arrays: unchanged(arrays, images)
    arrays = cached(f"{key}-{on_bad}", [annotations, *lists], build, places=[images], holds=holds)
    return Annotations(arrays, images, other_sizes=True)


def jpeg(stem: str, written: str | None) -> str:
    return f"{stem}.JPEG"


def _blacklist(home: Path, source: Annotations) -> np.ndarray:
    """Reads the development kit's blacklist: pairs of image index and category id not to evaluate, int64 [k, 2].

    The kit numbers images by the lines of val.txt, also for val1 and val2.
    """
    files = [file for folder in (home, home / "devkit/data") for file in sorted(folder.glob(BLACKLIST))]
    if not files:
        return np.zeros((0, 2), np.int64)
    stem_of = dict(enumerate(marks_in(_lists(home / "ImageSets/DET", "val")), 1))
    index_of = {source.image_id(i): i for i in range(len(source))}
    id_of = dict(zip(DET, source.category_ids))
    pairs = [line.split() for line in files[0].read_text().splitlines() if line.strip()]
    try:
        named = [(stem_of[int(number)], id_of[wnid]) for number, wnid in pairs]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{files[0]} has a line without an image of val.txt and a class ({error}): restore it."
        ) from error
    indexed = [(index_of[stem], category) for stem, category in named if stem in index_of]
    return np.array(indexed, np.int64).reshape(-1, 2)


def _lists(folder: Path, split: str) -> list[Path]:
    if split == "train":
        return sorted(folder.glob("train_*.txt"))
    lists = [folder / f"{split}.txt"]
    if not lists[0].is_file():
        halves = ", one half of R-CNN's split of val, one image per line" if split != "val" else ""
        raise DataError(f"{lists[0]} is missing: put the list of the images of {split} there{halves}.")
    return lists


def marks_in(lists: Sequence[Path]) -> dict[str, set[str]]:
    """Reads the marks of each image in the lists, one per class: 1 (present), 0 (not all boxed) or -1 (absent)."""
    marks: dict[str, set[str]] = {}
    for file in lists:
        for line in file.read_text().splitlines():
            stem, *mark = line.split() or [""]
            marks.setdefault(stem, set()).update(mark)
    marks.pop("", None)
    return marks


def _stems_below(folder: Path) -> list[str]:
    return [
        os.path.relpath(os.path.join(path, name), folder).removesuffix(".xml")
        for path, _, names in os.walk(folder)
        for name in names
        if name.endswith(".xml")
    ]
