"""Image files on disk: one folder per class, or a plain list of files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.data.array_cache import Strings
from resdet.errors import DataError, number_of
from resdet.images.decode import EncodedImage, map_image, read_image
from resdet.images.image_files import IMAGE_SUFFIXES, SKIPPED, is_image

UNREADABLE = "restore it or remove it"
IMAGE_FOLDERS = ("image", "images", "img", "imgs", "jpegimages", "pngimages")  # in lower case


class ImageFiles:
    """A source of image files; `paths` are relative to `root`, and labels default to -1."""

    note = ""  # for the log: how the images were selected, or which are missing

    def __init__(self, root: Path | str, paths: Strings, labels: np.ndarray | None = None, classes: Sequence[str] = ()):
        self.root = Path(root)
        self.paths = paths
        self.labels = np.full(len(paths), -1, np.int64) if labels is None else labels
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return f"{self.root}/{self.paths[i]}"

    def image(self, i: int) -> EncodedImage:
        return read_image(self.name(i), UNREADABLE)

    def header_size(self, i: int) -> tuple[int, int]:
        return map_image(self.name(i), UNREADABLE).size


class ImageFolder(ImageFiles):
    """One folder per class, in the order of torchvision's ImageFolder; hidden files and folders are ignored.

    Images in subfolders of a class folder belong to that class. Pass the training split's `classes` to a validation
    split, which may lack images of some classes: labels then agree, and an extra folder raises a DataError.
    """

    def __init__(self, root: Path | str, classes: Sequence[str] | None = None):
        folders, _ = list_folder(root)
        if not folders:
            raise DataError(f"{root} has no class folders: put the images of each class into a folder of its name.")
        _refuse_masks(root, folders)
        names = folders if classes is None else list(classes)
        _refuse_unknown(root, folders, names)
        paths = [_images_under(root, name) if name in folders else [] for name in names]
        empty = [name for name, images in zip(names, paths) if not images]
        if empty and (classes is None or len(empty) == len(names)):
            suffixes = ", ".join(IMAGE_SUFFIXES)
            raise DataError(f"{root}/{empty[0]} has no images ({suffixes}): add some or remove the folder.")
        labels = np.repeat(np.arange(len(names), dtype=np.int64), [len(images) for images in paths])
        super().__init__(root, Strings.pack(path for images in paths for path in images), labels, names)
        if empty:
            others = f" and of {number_of(len(empty) - 1, 'other class', 'other classes')}" if len(empty) > 1 else ""
            self.note = f"{root} has no images of the class {empty[0]}{others}"


def list_folder(folder: Path | str) -> tuple[list[str], list[str]]:
    """Returns the sorted names of the folders and of the files in `folder`, without hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name != SKIPPED:
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot list the folder ({error.strerror}); check data.root in your config."
        ) from error
    return sorted(folders), sorted(files)


def _refuse_masks(root: Path | str, folders: list[str]) -> None:
    """Refuses a folder of images next to a folder of masks, which would become two classes."""
    images = next((name for name in folders if name.lower() in IMAGE_FOLDERS), None)
    masks = next((name for name in folders if "mask" in name.lower()), None)
    if images and masks:
        raise DataError(
            f"{root}: the folders {images} and {masks} are not classes; docs/data.md (mask_png) describes the masks of "
            "detectors."
        )


def _refuse_unknown(root: Path | str, folders: list[str], classes: list[str]) -> None:
    unknown = set(folders) - set(classes)
    if unknown:
        raise DataError(f"{root}/{min(unknown)} is not one of the {len(classes)} classes: remove or rename the folder.")


def _images_under(root: Path | str, folder: str) -> list[str]:
    """Returns the paths, relative to `root`, of the images below `folder`, sorted within each subfolder."""
    listing, pending = [], [folder]
    while pending:
        current = pending.pop()
        folders, files = list_folder(os.path.join(root, current))
        pending += [f"{current}/{name}" for name in folders]
        listing.append((current, files))
    return [f"{current}/{name}" for current, files in sorted(listing) for name in files if is_image(name)]
