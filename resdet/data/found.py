"""What a reader found in annotation files: checked, said what is wrong with it, and packed into arrays."""

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resdet.data.index import Arrays, Strings
from resdet.data.segments import SegmentColumns
from resdet.errors import DataError
from resdet.images.decode import as_image

OnBad = Literal["error", "skip"]
LARGEST = 2**24  # no picture has a longer side; float32 tells the pixels below it apart
NAMED = 5  # ids that a sentence about a problem names


@dataclass
class Found:
    """What a reader found in N images and their M objects, before anything is checked."""

    files: list[str]  # of the images, below their folder
    sizes: Sequence[tuple[int, int]]  # N: width, height
    images: list[int]  # M: positions of the objects' images
    boxes: list[Sequence[float]]  # M × 4 xyxy
    labels: list[int]  # M
    names: Sequence[object]  # M, by which problems call the objects
    image_ids: list[int] | None = None  # N
    crowd: list[bool] = field(default_factory=list)  # M, or empty: here and below
    difficult: list[bool] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    segmentations: list[Any] = field(default_factory=list)  # as in COCO's files


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
                f"{self.file}: {noun} {names[0]} has {what}: "
                f"mend it, or leave such {noun}s out with data.on_bad_annotation=skip"
            )
        self.note(noun, names, what, "left out")

    def note(self, noun: str, names: Sequence[object], what: str, done: str) -> None:
        """Says what was done about it; never an error."""
        if names:
            several = "s" if len(names) > 1 else ""
            named = ", ".join(map(str, names[:NAMED])) + (", …" if len(names) > NAMED else "")
            self.sentences.append(f"{self.file}: {done} {len(names)} {noun}{several} with {what}: {named}")


def compile_found(found: Found, classes: dict[int, str], problems: Problems, noun: str) -> Arrays:
    """The arrays of an `Annotations`: sound objects alone, image by image; `classes` are names by category id."""
    images = np.array(found.images, np.int64)
    boxes, sound = _sound_boxes(found, images, problems, noun)
    order = np.argsort(images, kind="stable")
    segments, kept, wrong = SegmentColumns(), [], {}
    for k in order[sound[order]].tolist():
        width, height = found.sizes[images[k]]
        try:
            segments.add(found.segmentations[k] if found.segmentations else None, height, width)
        except ValueError as error:
            wrong.setdefault(str(error), []).append(found.names[k])
        else:
            kept.append(k)
    for what, names in wrong.items():
        problems.leave_out(noun, names, what)
    flags = lambda values: np.array(values, bool)[kept] if values else np.zeros(len(kept), bool)
    starts = np.zeros(len(found.files) + 1, np.int64)
    np.cumsum(np.bincount(images[kept], minlength=len(found.files)), out=starts[1:])
    arrays = {
        "sizes": np.asarray(found.sizes, np.int32).reshape(-1, 2),
        "starts": starts,
        "boxes": boxes[kept].astype(np.float32),
        "labels": np.array(found.labels, np.int32)[kept],
        "crowd": flags(found.crowd),
        "difficult": flags(found.difficult),
        "truncated": flags(found.truncated),
        "category_ids": np.array(list(classes), np.int64),
    }
    if found.image_ids is not None:
        arrays["image_ids"] = np.array(found.image_ids, np.int64)
        arrays["numbers"] = np.array(found.names, np.int64)[kept]
    arrays |= segments.arrays()
    arrays |= Strings.pack(found.files).arrays("files")
    arrays |= Strings.pack(classes.values()).arrays("classes")
    return arrays | Strings.pack(problems.sentences).arrays("problems")


def _sound_boxes(found: Found, images: np.ndarray, problems: Problems, noun: str) -> tuple[np.ndarray, np.ndarray]:
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


def read_json(file: Path | str) -> Any:
    collecting = gc.isenabled()
    gc.disable()  # it would walk millions of new lists again and again: a third of the time
    try:
        return json.loads(Path(file).read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): name a JSON file") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}): write, export or download it again") from error
    finally:
        if collecting:
            gc.enable()


def size_of(file: Path | str) -> tuple[int, int] | None:
    """(width, height) that the image file itself tells, None where it cannot be read."""
    try:
        return as_image(file).size
    except DataError:
        return None
