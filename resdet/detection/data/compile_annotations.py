"""Checks the annotations from a reader, reports their problems, and packs them into arrays."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resdet.data.array_cache import Arrays, Strings
from resdet.detection.data.segmentation_columns import SegmentColumns
from resdet.detection.data.validation import Records
from resdet.errors import DataError, number_of, printable, shorten
from resdet.images.decode import map_image
from resdet.threads import map_in_threads

OnBad = Literal["error", "skip"]
LONGEST_NAME = 60  # characters
NAMED = 5  # ids listed per sentence


@dataclass
class RawAnnotations:
    """N images and M objects from a reader, unchecked."""

    files: Sequence[str] | Strings  # N image paths, below their folder
    sizes: Sequence[tuple[int, int]] | np.ndarray  # N: width, height
    images: Sequence[int] | np.ndarray  # M: index of each object's image
    boxes: Sequence[Sequence[float]] | np.ndarray  # M × 4 xyxy
    labels: Sequence[int] | np.ndarray  # M
    names: Sequence[object] | np.ndarray  # M, for sentences on problems
    crowd: Sequence[bool] | np.ndarray = ()  # M or empty, here and below
    difficult: Sequence[bool] = ()
    truncated: Sequence[bool] = ()
    segmentations: Iterable[Any] = ()  # M or empty; as in COCO's files; iterated once
    image_columns: Arrays = field(default_factory=dict)  # [N] each: additional columns of the index
    object_columns: Arrays = field(default_factory=dict)  # [M] each: likewise


class Problems:
    """Problems of a file: raises an error on the first, or collects one sentence with a count per kind."""

    def __init__(self, file: Path, on_bad: OnBad):
        self.file, self.on_bad = file, on_bad
        self.sentences: list[str] = []

    def leave_out(self, noun: str, names: Sequence[object], problem: str) -> None:
        """Reports that annotations, objects or images (`noun`) with these names have a problem and are skipped."""
        if not names:
            return
        if self.on_bad == "error":
            raise DataError(
                f"{self.file}: {noun} {_short(names[0])} has {problem}: "
                f"fix it, or leave such {noun}s out with data.on_bad_annotation=skip."
            )
        self.note(noun, names, problem, "left out")

    def report(self, records: Records, rows: np.ndarray, problem: str, key: str | None) -> None:
        self.leave_out(records.noun, [records.name(row) for row in rows.tolist()], problem)

    def note(self, noun: str, names: Sequence[object], problem: str, action: str) -> None:
        """Records a problem and the action taken; never raises."""
        if names:
            named = ", ".join(map(_short, names[:NAMED])) + (", …" if len(names) > NAMED else "")
            self.sentences.append(f"{self.file}: {action} {number_of(len(names), noun)} with {problem}: {named}")


def compile_annotations(raw: RawAnnotations, classes: dict[int, str], problems: Problems, noun: str) -> Arrays:
    """Creates the arrays of `Annotations`: valid objects, sorted by image; `classes`: names by category id."""
    images = np.array(raw.images, np.int64)
    sizes = np.asarray(raw.sizes, np.int32).reshape(-1, 2)
    boxes, valid = _check_boxes(raw, images, problems, noun)
    order = np.argsort(images, kind="stable")
    order = order[valid[order]]
    segments, good = _check_segments(raw, sizes[images], valid, order, problems, noun)
    kept = order[good]
    flags = lambda values: np.array(values, bool)[kept] if len(values) else np.zeros(len(kept), bool)
    starts = np.zeros(len(raw.files) + 1, np.int64)
    np.cumsum(np.bincount(images[kept], minlength=len(raw.files)), out=starts[1:])
    arrays = {
        "sizes": sizes,
        "starts": starts,
        "boxes": boxes[kept].astype(np.float32),
        "labels": np.array(raw.labels, np.int32)[kept],
        "crowd": flags(raw.crowd),
        "difficult": flags(raw.difficult),
        "truncated": flags(raw.truncated),
        "category_ids": np.array(list(classes), np.int64),
    }
    arrays |= raw.image_columns | {name: column[kept] for name, column in raw.object_columns.items()}
    arrays |= SegmentColumns.select(segments, good)
    arrays |= Strings.pack(raw.files).arrays("files")
    arrays |= Strings.pack(classes.values()).arrays("classes")
    return arrays | Strings.pack(problems.sentences).arrays("problems")


def _check_segments(
    raw: RawAnnotations, sizes: np.ndarray, valid: np.ndarray, order: np.ndarray, problems: Problems, noun: str
) -> tuple[Arrays, np.ndarray]:
    """Returns the segment columns of the n valid objects, sorted by image, and good [n].

    `valid` [M]; `order` [n]: rows of the valid objects, by image; `sizes` [M, 2]: those of the objects' images.
    """
    segments, bad = SegmentColumns.pack(compress(raw.segmentations, valid.tolist()), sizes[valid])
    if not bad:
        return SegmentColumns.without(len(order)), np.ones(len(order), bool)
    places = (np.cumsum(valid) - 1)[order]  # positions of the objects in `segments`
    faults = [(k, bad[place]) for k, place in zip(order.tolist(), places.tolist()) if bad[place]]
    for kind in dict.fromkeys(problem for _, problem in faults):
        problems.leave_out(noun, [raw.names[k] for k, problem in faults if problem == kind], str(kind))
    good = np.array([problem is None for problem in bad], bool)
    return SegmentColumns.take(segments, places), good[places]


def _check_boxes(
    raw: RawAnnotations, images: np.ndarray, problems: Problems, noun: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes [M, 4] clipped to their images, and valid [M]."""
    boxes = np.asarray(raw.boxes, np.float64).reshape(-1, 4)
    limits = np.tile(np.asarray(raw.sizes, np.float64).reshape(-1, 2)[images], 2)
    clipped = np.clip(boxes, 0, limits)
    valid = np.ones(len(boxes), bool)
    has_area = lambda boxes: (boxes[:, 2:] > boxes[:, :2]).all(1)
    names = lambda rows: [raw.names[k] for k in np.flatnonzero(rows).tolist()]
    for problem, good in (
        ("NaN or infinite coordinates", np.isfinite(boxes).all(1)),
        ("a box without area", has_area(boxes)),
        ("a box outside of its image", has_area(clipped)),
    ):
        problems.leave_out(noun, names(valid & ~good), problem)
        valid &= good
    beyond = valid & (np.abs(clipped - boxes).max(1, initial=0) > 1)
    problems.note(noun, names(beyond), "a box that exceeds its image", "clipped")
    return clipped, valid


def _short(name: object) -> str:
    return shorten(printable(str(name)), LONGEST_NAME)


class Measured:
    """Sizes read from image files, and the state of these and other files that annotations depend on.

    A dependent index is valid while the files are unchanged, so missing or incomplete images are measured again on the
    next start.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.files: list[str] = []

    def size_of(self, file: str) -> tuple[int, int] | None:
        """Returns (width, height), None if the file cannot be read."""
        self.files.append(file)
        return size_of(self.folder / file)

    def sizes_of(self, files: Sequence[str]) -> list[tuple[int, int] | None]:
        """As `size_of` for many files, in threads, which mostly wait for the disk."""
        self.files += files
        return map_in_threads(lambda file: size_of(self.folder / file), files, "reading image sizes")

    def arrays(self) -> Arrays:
        """Returns arrays to store in the index, for `unchanged`."""
        return Strings.pack(self.files).arrays("measured") | {"measured.states": file_states(self.folder, self.files)}


def size_of(file: Path | str) -> tuple[int, int] | None:
    """Returns (width, height) from an image file, None if it cannot be read."""
    try:
        return map_image(file, "restore it").size
    except DataError:
        return None


def unchanged(arrays: Arrays, folder: Path | str) -> bool:
    """Returns whether the files that an index depends on are unchanged."""
    files = Strings.from_arrays(arrays, "measured")
    return np.array_equal(file_states(Path(folder), files), arrays["measured.states"])


def file_states(folder: Path, files: Iterable[str]) -> np.ndarray:
    """Returns int64 [n, 2]: size and modification time, -1 for missing files."""
    states = []
    for file in files:
        try:
            stat = os.stat(folder / file)
        except (OSError, ValueError):  # ValueError: a name with NUL
            states.append((-1, -1))
        else:
            states.append((stat.st_size, stat.st_mtime_ns))
    return np.array(states, np.int64).reshape(-1, 2)
