"""Validation images of class folders without a validation tree."""

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np

from resdet.data.array_cache import Strings
from resdet.data.folder import ImageFiles, ImageFolder, list_folder
from resdet.data.split_words import SPLITS
from resdet.errors import DataError


def open_share(root: Path, train: str, split: str, share: float, seed: int) -> ImageFiles:
    """Returns the images of `split`, `train` or `val`, from the class folders in root/`train`, or in root if that is
    missing.

    Validation gets `share` of the images of each class, and at least one of several: those with the lowest hashes of
    their names, so that few images change splits when others are added.
    """
    source = ImageFolder(training_tree(root, train))
    digests = [blake2b(os.fsencode(f"{seed} {path}"), digest_size=8).hexdigest() for path in source.paths]
    chosen = np.zeros(len(source), bool)
    for label in range(len(source.classes)):
        rows = sorted(np.flatnonzero(source.labels == label).tolist(), key=lambda row: digests[row])
        chosen[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    if not chosen.any():
        raise DataError(f"{source.root} has one image of each class: add images for validation.")
    kept = np.flatnonzero(chosen == (split == "val"))
    paths = Strings.pack(source.paths[row] for row in kept.tolist())
    images = ImageFiles(source.root, paths, source.labels[kept], source.classes)
    images.note = (
        f"{root} has no folder val: {int(chosen.sum())} of the {len(source)} images in {source.root} are for "
        "validation (data.val_share, data.seed)"
    )
    return images


def training_tree(root: Path, train: str) -> Path:
    """Returns root/`train`, or root if its folders are classes; refuses folders with the names of other splits."""
    folders, _ = list_folder(root)
    flat = train == "train" and not (root / train).is_dir()
    unexpected = {"train", "val", "test"} if flat else {"val"}
    others = [name for name in folders if SPLITS.get(name.lower()) in unexpected]
    if others:
        missing, keys = (train, "data.train and data.val") if flat else ("val", "data.val")
        classes = f", or move all class folders into {root / train} if these are classes" if flat else ""
        raise DataError(
            f"{root} has no folder {missing}, but {', '.join(others)}: set {keys} to the names of the folders{classes}."
        )
    if flat and len(folders) == 1:
        raise DataError(
            f"{root} has a single folder, {folders[0]}: give a folder with train and val, or with a folder for each "
            "class."
        )
    return root if flat else root / train
