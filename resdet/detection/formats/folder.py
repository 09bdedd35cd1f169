"""Lists the files of a data set once, and locates the images that annotations name."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from resdet.data.split_words import SPLITS
from resdet.errors import DataError
from resdet.images.image_files import is_image, walk

HEAD = 2**14  # bytes read to recognize a file


class Folder:
    """The files below `root` as sorted relative paths with `/`, without hidden files and folders."""

    def __init__(self, root: Path | str, files: Sequence[str] | None = None):
        """`files`: paths to use instead of all files."""
        self.root = Path(root)
        if not self.root.is_dir():
            kind = "a file" if self.root.exists() else "missing"
            raise DataError(f"{self.root} is {kind}: give the folder of images and annotations (data.root).")
        self.files = sorted(walk(self.root) if files is None else files)

    @cached_property
    def images(self) -> list[str]:
        return [file for file in self.files if is_image(file)]

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.files)

    def having(self, *suffixes: str) -> list[str]:
        """Returns files with these suffixes, in upper or lower case."""
        return [file for file in self.files if file.lower().endswith(suffixes)]

    def has(self, file: str) -> bool:
        """Returns whether a file exists, also at a path outside the root."""
        return file in self.known or (file.startswith(("..", "/")) and (self.root / file).is_file())

    def head(self, file: str, size: int = HEAD) -> bytes:
        """Returns the first bytes of a file; empty if it cannot be read."""
        try:
            with open(self.root / file, "rb") as opened:
                return opened.read(size)
        except OSError:
            return b""

    def locate(self, name: str, near: str = "", split: str | None = None) -> str | None:
        """Finds the image that an annotation file at `near` calls `name`: a path or its end, with or without suffix.

        Among several images with this name, chooses the path that agrees most with the folders of `name`, the split,
        and the annotation file's path. An annotation file in a folder of the split has no images in another split.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        candidates = self._by_stem.get(_key(parts[-1]), []) if parts else []
        if split is not None:
            of_split = [image for image in candidates if split_in(image) in (None, split)]
            candidates = of_split if of_split or split_in(near) == split else candidates
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        return max(candidates, key=lambda image: _agreement(image, parts, near.split("/"), split))

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        images = defaultdict(list)
        for image in self.images:
            images[_key(image.rpartition("/")[2])].append(image)
        return dict(images)


def stem(file: str) -> str:
    """Removes an image suffix from a path; other suffixes are part of the name."""
    return os.path.splitext(file)[0] if is_image(file) else file


def composed(name: str) -> str:
    """Normalizes case and Unicode composition, since macOS writes ü as two characters."""
    return unicodedata.normalize("NFC", name).lower()


def _key(name: str) -> str:
    """As `composed`, ignoring the suffix of an image."""
    return composed(stem(name))


def split_of(name: str) -> str | None:
    """Returns `train`, `val` or `test` if a word of the name, such as instances_train2017, means it; else None."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def split_in(file: str) -> str | None:
    """Returns the split named by a folder of the path."""
    return next(filter(None, map(split_of, PurePosixPath(file).parts[:-1])), None)


def by_split(files: Iterable[str]) -> dict[str, list[str]]:
    """Groups files by the split that one of their folders names; `train` without such a folder."""
    splits: dict[str, list[str]] = {}
    for file in files:
        splits.setdefault(split_in(file) or "train", []).append(file)
    return splits


def _agreement(image: str, name: list[str], near: list[str], split: str | None) -> tuple[int, bool, int, bool, bool]:
    parts = image.split("/")
    folders = _common(parts[-2::-1], name[-2::-1])
    return (
        folders,
        split is not None and split_in(image) == split,
        _common(parts[:-1], near[:-1]),
        stem(parts[-1]) == stem(name[-1]),
        parts[-1] == name[-1],
    )


def _common(a: list[str], b: list[str]) -> int:
    """Returns the length of the common prefix of two lists."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
