"""The content of a recognized folder, and the interface of formats."""

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
    images: tuple[str, ...] = ()  # for formats without a list of images in their files
    image_folder: str = ""  # for formats whose files name images relative to a folder
    annotated: int = 0  # annotated images, to choose between two formats


@dataclass(frozen=True)
class Layout:
    """A recognized data set."""

    format: str
    folder: Folder
    splits: dict[str, Split]  # by `train`, `val`, `test`
    evidence: str  # clause on the files that identified the format
    classes: Sequence[str] = ()  # if listed in a file; otherwise the objects define them
    shared: tuple[str, ...] = ()  # files shared by all splits
    as_is: bool = False  # one COCO file per split, with the same classes and with image paths
    rivals: tuple["Layout", ...] = ()  # other formats that fit the folder, if all were tested

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
        """Returns the annotation file and the image folder of a split in COCO's format."""
        files = self.splits[split]
        return self.root / files.annotations[0], self.root / files.image_folder

    def __str__(self) -> str:
        splits = " and ".join(filter(None, [", ".join([*self.splits][:-1]), [*self.splits][-1]]))
        return f"{source_of(self.root)} is in the format {self.format}, with {splits} ({self.evidence})"


@dataclass(frozen=True)
class Unfit:
    """Reason why a folder is not in a format."""

    reason: str
    near: int = 0  # files that could belong to the format; the error names formats with the most


class Format(Protocol):
    """An annotation format; register a class with `register_format`."""

    def recognize(self, folder: Folder) -> Layout | Unfit:
        """Recognizes the format; called on each start, so it should read only names and a few files."""
        ...

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        """Reads a split in COCO's format; `file_name` is relative to the layout's folder, `bbox` is xywh in pixels.

        Images without size are measured. Pass unsupported entries to `collector.leave_out`.
        """
        ...
