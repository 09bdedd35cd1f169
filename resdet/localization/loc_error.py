"""ILSVRC's localization task (appendix C, Tables 13 and 14): errors as in its devkit, and submissions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from resdet.classification.data.imagenet import devkit_ids
from resdet.data.ilsvrc_files import devkit_numbers, read_lines
from resdet.detection.data.pairwise_iou import iou_xyxy
from resdet.errors import DataError
from resdet.files.atomic import write_text
from resdet.localization.data.ilsvrc_loc import open_ilsvrc_loc, stem_of

MIN_IOU = 0.5
GUESSES = 5

Truth = tuple[np.ndarray, Sequence[np.ndarray]]  # labels [N]; the boxes [n, 4] of each image's class
Guesses = tuple[np.ndarray, np.ndarray]  # labels [N, k], best first; boxes [N, k, 4]


def evaluate_loc(truth: str | Path | Truth, guesses: str | Path | Guesses) -> dict[str, Any]:
    """Returns {"images", "loc_error", "class_error", "per_guess"}: errors as fractions.

    An image is correct if one of its guesses has its class and an IoU of at least 0.5 with any instance; `class_error`
    requires only the class. `per_guess` is the localization error of the first guess, of the first two, and so on. The
    ground-truth class as the only guess gives Table 13's first column, five classes the second. Boxes are xyxy in
    pixels, right and bottom exclusive.

    Both arguments are arrays, or both are files: the folder of ILSVRC 2012, with its validation images, boxes and
    development kit, and a file in the submission server's format.
    """
    if isinstance(truth, (str, Path)) or isinstance(guesses, (str, Path)):
        truth, guesses = read_files(Path(cast(str, truth)), Path(cast(str, guesses)))
    labels, boxes = truth
    guessed, guessed_boxes = (np.asarray(part) for part in guesses)
    same = guessed == np.asarray(labels)[:, None]
    correct = same & (best_overlaps(guessed_boxes, boxes) >= MIN_IOU)
    errors = [1 - float(correct[:, : k + 1].any(1).mean()) for k in range(guessed.shape[1])]
    return {
        "images": len(labels),
        "loc_error": errors[-1],
        "class_error": 1 - float(same.any(1).mean()),
        "per_guess": errors,
    }


def best_overlaps(guessed: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the largest IoU [N, k] of guessed boxes [N, k, 4] with the boxes [n, 4] of the image; 0 without boxes."""
    rows = np.repeat(np.arange(len(guessed)), [len(objects) for objects in boxes])
    a = guessed[rows].astype(np.float64)  # [M, k, 4]
    b = np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float64).repeat(guessed.shape[1], 0)
    best = np.zeros(guessed.shape[:2])
    np.maximum.at(best, rows, iou_xyxy(a.reshape(-1, 4), b).reshape(a.shape[:2]))
    return best


def read_files(root: Path, submission: Path) -> tuple[Truth, Guesses]:
    """Reads the validation set, and a submission with one line for each of its images, in the order of their names."""
    source = open_ilsvrc_loc(root, "val")
    devkit = devkit_ids(root)
    check_localization(submission, len(source.source), len(devkit))
    lines = submission.read_text(encoding="ascii").splitlines()
    rows = np.zeros((len(lines), GUESSES, 5))  # 0 is not a class
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
    """Writes one line per image, in the order of the names: five times ILSVRC2012_ID, xmin, ymin, xmax, ymax, best
    first.

    `labels` [N, 5] are indices into `classes` (synsets), `boxes` [N, 5, 4] xyxy in pixels; `devkit` lists the synsets
    in the order of ILSVRC2012_ID. The file contains integer pixels counted from 0, right and bottom inclusive.
    """
    ids = devkit_numbers(classes, devkit)[labels]
    corners = np.rint(boxes).astype(np.int64)
    corners[..., 2:] = np.maximum(corners[..., 2:] - 1, corners[..., :2])
    rows = np.concatenate([ids[..., None], corners], 2).reshape(len(ids), -1)
    lines = [" ".join(map(str, row)) for row in rows.tolist()]
    write_text(path, "\n".join(lines) + "\n")


def check_localization(path: str | Path, images: int, classes: int = 1000) -> None:
    """Raises a DataError for the first line that the server would reject."""
    for row, line in enumerate(read_lines(path, images), start=1):
        problem = format_problem(line, classes)
        if problem:
            raise DataError(f"{path}, line {row}: {problem}; write class, xmin, ymin, xmax, ymax up to five times.")


def format_problem(line: str, classes: int) -> str:
    """Describes the line's format error; empty if it is valid."""
    fields = line.split()
    if len(fields) not in range(5, GUESSES * 5 + 1, 5):
        return f"{len(fields)} numbers instead of five for each of one to {GUESSES} guesses"
    try:
        rows = np.array(fields, np.float64).reshape(-1, 5)
    except ValueError:
        return f"{line[:60]!r} has fields that are not numbers"
    ids = rows[:, 0]
    if not ((ids == np.rint(ids)) & (ids >= 1) & (ids <= classes)).all():
        return f"the classes are not whole numbers from 1 to {classes}"
    boxes = rows[:, 1:]
    if not np.isfinite(boxes).all() or boxes.min() < 0 or (boxes[:, 2:] < boxes[:, :2]).any():
        return "a box violates 0 <= min <= max"
    return ""
