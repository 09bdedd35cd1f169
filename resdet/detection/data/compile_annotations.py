"""What a reader found in annotation files: checked, said what is wrong with it, and packed into arrays."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resdet.data.array_cache import Arrays, Strings
from resdet.detection.data.segmentation_columns import SegmentColumns
from resdet.detection.data.validation import Records
from resdet.errors import DataError
from resdet.images.decode import map_image

OnBad = Literal["error", "skip"]
LONGEST_NAME = 60  # characters
NAMED = 5  # ids that a sentence about a problem names


@dataclass
class RawAnnotations:
    """What a reader found in N images and their M objects, before anything is checked."""

    files: list[str]  # of the images, below their folder
    sizes: Sequence[tuple[int, int]] | np.ndarray  # N: width, height
    images: Sequence[int] | np.ndarray  # M: positions of the objects' images
    boxes: Sequence[Sequence[float]] | np.ndarray  # M × 4 xyxy
    labels: Sequence[int] | np.ndarray  # M
    names: Sequence[object]  # M, by which problems call the objects
    crowd: Sequence[bool] | np.ndarray = ()  # M, or empty: here and below
    difficult: Sequence[bool] = ()
    truncated: Sequence[bool] = ()
    segmentations: Sequence[Any] = ()  # as in COCO's files
    image_columns: Arrays = field(default_factory=dict)  # [N] each, which the index keeps
    object_columns: Arrays = field(default_factory=dict)  # [M] each, likewise


class Problems:
    """What is wrong with a file: the first of it as an error, or all of it counted, one sentence a kind."""

    def __init__(self, file: Path, on_bad: OnBad):
        self.file, self.on_bad = file, on_bad
        self.sentences: list[str] = []

    def leave_out(self, noun: str, names: Sequence[object], what: str) -> None:
        """The annotations, objects or images (`noun`) of these names have `what`, and cannot be used."""
        if not names:
            return
        if self.on_bad == "error":
            raise DataError(
                f"{self.file}: {noun} {_short(names[0])} has {what}: "
                f"mend it, or leave such {noun}s out with data.on_bad_annotation=skip"
            )
        self.note(noun, names, what, "left out")

    def report(self, records: Records, rows: np.ndarray, what: str, key: str | None) -> None:
        self.leave_out(records.noun, [records.name(row) for row in rows.tolist()], what)

    def note(self, noun: str, names: Sequence[object], what: str, done: str) -> None:
        """Says what was done about it; never an error."""
        if names:
            several = "s" if len(names) > 1 else ""
            named = ", ".join(map(_short, names[:NAMED])) + (", …" if len(names) > NAMED else "")
            self.sentences.append(f"{self.file}: {done} {len(names)} {noun}{several} with {what}: {named}")


def compile_annotations(found: RawAnnotations, classes: dict[int, str], problems: Problems, noun: str) -> Arrays:
    """The arrays of an `Annotations`: sound objects alone, image by image; `classes` are names by category id."""
    images = np.array(found.images, np.int64)
    sizes = np.asarray(found.sizes, np.int32).reshape(-1, 2)
    boxes, sound = _sound_boxes(found, images, problems, noun)
    order = np.argsort(images, kind="stable")
    order = order[sound[order]]
    segmentations = [found.segmentations[k] if len(found.segmentations) else None for k in order.tolist()]
    segments, wrong = SegmentColumns.pack(segmentations, sizes[images[order]])
    for what in dict.fromkeys(filter(None, wrong)):
        problems.leave_out(noun, [found.names[k] for k, problem in zip(order.tolist(), wrong) if problem == what], what)
    good = np.array([problem is None for problem in wrong], bool)
    kept = order[good]
    flags = lambda values: np.array(values, bool)[kept] if len(values) else np.zeros(len(kept), bool)
    starts = np.zeros(len(found.files) + 1, np.int64)
    np.cumsum(np.bincount(images[kept], minlength=len(found.files)), out=starts[1:])
    arrays = {
        "sizes": sizes,
        "starts": starts,
        "boxes": boxes[kept].astype(np.float32),
        "labels": np.array(found.labels, np.int32)[kept],
        "crowd": flags(found.crowd),
        "difficult": flags(found.difficult),
        "truncated": flags(found.truncated),
        "category_ids": np.array(list(classes), np.int64),
    }
    arrays |= found.image_columns | {name: column[kept] for name, column in found.object_columns.items()}
    arrays |= SegmentColumns.select(segments, good)
    arrays |= Strings.pack(found.files).arrays("files")
    arrays |= Strings.pack(classes.values()).arrays("classes")
    return arrays | Strings.pack(problems.sentences).arrays("problems")


def _sound_boxes(
    found: RawAnnotations, images: np.ndarray, problems: Problems, noun: str
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes [M, 4] clipped to their images, and which of them [M] can be used."""
    boxes = np.array(found.boxes, np.float64).reshape(-1, 4)
    limits = np.tile(np.asarray(found.sizes, np.float64).reshape(-1, 2)[images], 2)
    clipped = np.clip(boxes, 0, limits)
    sound = np.ones(len(boxes), bool)
    has_area = lambda boxes: (boxes[:, 2:] > boxes[:, :2]).all(1)
    for what, good in (
        ("NaN or infinite coordinates", np.isfinite(boxes).all(1)),
        ("a box without area", has_area(boxes)),
        ("a box outside of its image", has_area(clipped)),
    ):
        problems.leave_out(noun, [found.names[k] for k in np.flatnonzero(sound & ~good)], what)
        sound &= good
    beyond = np.flatnonzero(sound & (np.abs(clipped - boxes).max(1, initial=0) > 1))
    problems.note(noun, [found.names[k] for k in beyond], "a box that reaches out of its image", "clipped")
    return clipped, sound


def _short(name: object) -> str:
    """As text for a sentence, on one line and without the middle of what is too long."""
    text = str(name)
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME // 2]}…{text[-LONGEST_NAME // 2 :]}"


class Measured:
    """Sizes that image files themselves tell, and the state of these files.

    An index that depends on them holds for as long as they are what they were: images that are missing, or are still
    being copied, are looked at again at the next start.
    """

    def __init__(self, folder: Path | str):
        self.folder, self.files = Path(folder), []

    def size_of(self, file: str) -> tuple[int, int] | None:
        """(width, height), None where the file cannot be read."""
        self.files.append(file)
        return size_of(self.folder / file)

    def arrays(self) -> Arrays:
        """Kept with the index, for `unchanged`."""
        return Strings.pack(self.files).arrays("measured") | {"measured.states": file_states(self.folder, self.files)}


def size_of(file: Path | str) -> tuple[int, int] | None:
    """(width, height) that the image file itself tells, None where it cannot be read."""
    try:
        return map_image(file, "restore it").size
    except DataError:
        return None


def unchanged(arrays: Arrays, folder: Path | str) -> bool:
    """Whether the image files that were measured for an index are what they were then."""
    files = Strings.from_arrays(arrays, "measured")
    return np.array_equal(file_states(Path(folder), files), arrays["measured.states"])


def file_states(folder: Path, files: Iterable[str]) -> np.ndarray:
    """int64 [n, 2]: size and time of change, -1 where there is no such file."""
    states = []
    for file in files:
        try:
            stat = os.stat(folder / file)
        except (OSError, ValueError):  # a ValueError: a name with NUL
            states.append((-1, -1))
        else:
            states.append((stat.st_size, stat.st_mtime_ns))
    return np.array(states, np.int64).reshape(-1, 2)
