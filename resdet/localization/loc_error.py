"""ILSVRC's localization task (appendix C, Tables 13 and 14): errors by the rules of its devkit, and submissions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.classification.data.imagenet import devkit_ids
from resdet.data.ilsvrc_files import devkit_numbers, read_lines
from resdet.errors import DataError
from resdet.files.atomic import write_text
from resdet.localization.data.ilsvrc_loc import open_ilsvrc_loc, stem_of

ENOUGH = 0.5  # IoU
GUESSES = 5

Truth = tuple[np.ndarray, Sequence[np.ndarray]]  # labels [N]; of each image the boxes [n, 4] of that class
Guesses = tuple[np.ndarray, np.ndarray]  # labels [N, k], best first; a box for each, [N, k, 4]


def evaluate_loc(truth: str | Path | Truth, guesses: str | Path | Guesses) -> dict[str, Any]:
    """{"images", "loc_error", "class_error", "per_guess"}: errors as fractions.

    An image is right if one of its guesses has its class and overlaps any instance of it by an IoU of 0.5 or more; for
    `class_error` the class is enough. `per_guess` is the localization error with the first guess alone, with the first
    two, and so on. The ground-truth class as the only guess gives Table 13's first column, five classes the second.
    Boxes are xyxy in pixels, right and bottom exclusive.

    Both are arrays, or both files: the folder of ILSVRC 2012, with its validation images, boxes and development kit,
    and a file in the submission server's format.
    """
    if isinstance(truth, (str, Path)):
        truth, guesses = read_files(Path(truth), Path(guesses))
    labels, boxes = truth
    guessed, places = (np.asarray(part) for part in guesses)
    same = guessed == np.asarray(labels)[:, None]
    right = same & (best_overlaps(places, boxes) >= ENOUGH)
    errors = [1 - float(right[:, : k + 1].any(1).mean()) for k in range(guessed.shape[1])]
    return {
        "images": len(labels),
        "loc_error": errors[-1],
        "class_error": 1 - float(same.any(1).mean()),
        "per_guess": errors,
    }


def best_overlaps(places: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """[N, k]: the largest IoU of each guessed box [N, k, 4] with those [n, 4] of its image; 0 where there is none."""
    rows = np.repeat(np.arange(len(places)), [len(own) for own in boxes])
    a = places[rows].astype(np.float64)  # [M, k, 4]
    b = np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float64)[:, None]
    shared = np.prod((np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0), -1)
    areas = [np.prod((part[..., 2:] - part[..., :2]).clip(0), -1) for part in (a, b)]
    best = np.zeros(places.shape[:2])
    np.maximum.at(best, rows, shared / np.maximum(areas[0] + areas[1] - shared, np.finfo(float).tiny))
    return best


def read_files(root: Path, submission: Path) -> tuple[Truth, Guesses]:
    """The validation set, and a submission for all of its images in the order of their names."""
    source = open_ilsvrc_loc(root, "val")
    devkit = devkit_ids(root)
    check_localization(submission, len(source.source), len(devkit))
    lines = submission.read_text(encoding="ascii").splitlines()
    rows = np.zeros((len(lines), GUESSES, 5))  # no class has the number 0
    for row, line in zip(rows, lines):
        guesses = np.array(line.split(), np.float64).reshape(-1, 5)
        row[: len(guesses)] = guesses
    stems = np.array([stem_of(source.source.name(i)) for i in range(len(source.source))])
    line_of = np.empty(len(stems), np.int64)
    line_of[np.argsort(stems)] = np.arange(len(stems))
    rows = rows[line_of[source.positions]]
    label_of = {synset: label for label, synset in enumerate(source.classes)}
    labels = np.array([-1, *(label_of.get(synset, -1) for synset in devkit)])[rows[..., 0].astype(np.int64)]
    boxes = [source.boxes(i) for i in range(len(source))]
    return (source.labels, boxes), (labels, rows[..., 1:] + (0, 0, 1, 1))


def write_localization(
    path: str | Path, labels: np.ndarray, boxes: np.ndarray, classes: Sequence[str], devkit: Sequence[str]
) -> None:
    """One line an image, in the order of their names: five times ILSVRC2012_ID, xmin, ymin, xmax, ymax, best first.

    `labels` [N, 5] are numbers in the order of `classes` (synsets), `boxes` [N, 5, 4] xyxy in pixels; `devkit` are the
    synsets in the order of ILSVRC2012_ID. Whole pixels are written, the last one of a box included, from 0 on.
    """
    ids = devkit_numbers(classes, devkit)[labels]
    corners = np.rint(boxes).astype(np.int64)
    corners[..., 2:] = np.maximum(corners[..., 2:] - 1, corners[..., :2])
    rows = np.concatenate([ids[..., None], corners], 2).reshape(len(ids), -1)
    lines = [" ".join(map(str, row)) for row in rows.tolist()]
    write_text(path, "\n".join(lines) + "\n")


def check_localization(path: str | Path, images: int, classes: int = 1000) -> None:
    """Raises a DataError that names the first line which the server would refuse."""
    for row, line in enumerate(read_lines(path, images), start=1):
        complaint = what_is_wrong(line, classes)
        if complaint:
            raise DataError(f"{path}, line {row}: {complaint}; write class, xmin, ymin, xmax, ymax up to five times.")


def what_is_wrong(line: str, classes: int) -> str:
    """In a few words; empty where nothing is."""
    fields = line.split()
    if len(fields) not in range(5, GUESSES * 5 + 1, 5):
        return f"{len(fields)} numbers and not five for each of one to {GUESSES} guesses"
    try:
        rows = np.array(fields, np.float64).reshape(-1, 5)
    except ValueError:
        return f"{line[:60]!r} is not all numbers"
    ids = rows[:, 0]
    if not ((ids == np.rint(ids)) & (ids >= 1) & (ids <= classes)).all():
        return f"the classes are not whole numbers from 1 to {classes}"
    boxes = rows[:, 1:]
    if not np.isfinite(boxes).all() or boxes.min() < 0 or (boxes[:, 2:] < boxes[:, :2]).any():
        return "a box is not 0 <= min <= max"
    return ""
