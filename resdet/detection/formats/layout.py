"""What a format finds in a folder, and the interface of a format."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from resdet.detection.formats.collector import Collector
from resdet.detection.formats.folder import Folder
from resdet.files.remote import source_of


@dataclass(frozen=True)
class Split:
    """The files of a split, relative to the folder of its layout."""

    annotations: tuple[str, ...]
    images: tuple[str, ...] = ()  # for formats that have no list of images in their files
    image_folder: str = ""  # for formats whose files name images relative to a folder
    annotated: int = 0  # images with an annotation, to choose between two formats


@dataclass(frozen=True)
class Layout:
    """A recognized data set."""

    format: str
    folder: Folder
    splits: dict[str, Split]  # by `train`, `val`, `test`
    evidence: str  # one clause: the files by which the format was recognized
    classes: Sequence[str] = ()  # if a file lists them; otherwise they are those of the objects
    shared: tuple[str, ...] = ()  # files that all splits depend on
    as_is: bool = False  # COCO files with a split each, with the same classes and with the paths of their images
    rivals: tuple["Layout", ...] = ()  # other formats that fit the folder, if all were tried

    @property
    def root(self) -> Path:
        return self.folder.root

    @property
    def annotated(self) -> int:
        return sum(split.annotated for split in self.splits.values())

    @property
    def lists_images(self) -> bool:
        return any(split.images for split in self.splits.values())

    def coco_file(self, split: str) -> tuple[Path, Path]:
        """The annotation file and the image folder of a split in COCO's format."""
        files = self.splits[split]
        return self.root / files.annotations[0], self.root / files.image_folder

    def __str__(self) -> str:
        splits = " and ".join(filter(None, [", ".join([*self.splits][:-1]), [*self.splits][-1]]))
        return f"{source_of(self.root)} is in the format {self.format}, with {splits} ({self.evidence})"


@dataclass(frozen=True)
class Unfit:
    """Why a folder is not in a format."""

    reason: str
    near: int = 0  # files that could have been of the format; those with most of them are named in the error


class Format(Protocol):
    """An annotation format; register a class with `register_format`."""

    def recognize(self, folder: Folder) -> Layout | Unfit:
        """Looks at names and a few files only: called at each start."""
        ...

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        """The split in COCO's format. `file_name` is relative to the folder of the layout, `bbox` is xywh in pixels.

        Images without size are measured. Entries that cannot be expressed go to `collector.leave_out`.
        """
        ...
