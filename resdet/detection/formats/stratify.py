"""Assigns groups of images to validation, with the same share of each class as closely as groups allow."""

import hashlib
from collections.abc import Sequence

import numpy as np

TRAIN, VAL, NEW = 0, 1, -1


def stratify(
    files: Sequence[str], groups: np.ndarray, presence: np.ndarray, share: float, seed: int, sides: np.ndarray
) -> np.ndarray:
    """Returns TRAIN or VAL for n images, int64 [n]; groups int64 [n] stay together.

    `presence` bool [n, C]: whether an image has the class. `sides` [n]: the side of each image if already assigned,
    which it keeps, or NEW; a group with an image in training joins training, else a group with one in validation joins
    validation. Starting with the rarest class, groups go to validation until the class reaches its share; images
    without objects come last. Training keeps a group of each class. The order of groups depends on the seed and file
    names, not on the order of files.
    """
    _, groups = np.unique(groups, return_inverse=True)
    order = np.argsort([_key(file, seed) for file in files], kind="stable")
    count = int(groups.max(initial=-1)) + 1
    side = np.full(count, NEW)
    side[groups[sides == VAL]] = VAL
    side[groups[sides == TRAIN]] = TRAIN
    # Columns to divide: images of each class and, last, all images.
    members = np.concatenate([presence, np.ones((len(files), 1), bool)], 1)
    totals = np.zeros((count, members.shape[1]), np.int64)
    np.add.at(totals, groups, members)
    ranked = groups[order[np.sort(np.unique(groups[order], return_index=True)[1])]]
    outside = (totals[side != VAL] > 0).sum(0)  # groups per class outside validation
    for column in [*np.argsort(totals[:, :-1].sum(0), kind="stable").tolist(), -1]:
        _share_out(side, outside, totals, column, ranked, share)
    _require_both(side, outside, totals, ranked)
    return np.where(sides == NEW, side[groups], sides)


def _share_out(
    side: np.ndarray, outside: np.ndarray, totals: np.ndarray, column: int, ranked: np.ndarray, share: float
) -> None:
    """Assigns the groups with a class: to validation while this brings the class closer to its share."""
    sizes = totals[:, column]
    target = round(share * float(sizes.sum()))
    have = int(sizes[side == VAL].sum())
    for number in ranked.tolist():
        size = int(sizes[number])
        if not size or side[number] != NEW:
            continue
        side[number] = TRAIN
        if have + size / 2 <= target and have < target and _is_spare(totals[number], outside):
            side[number] = VAL
            have += size
            outside -= totals[number] > 0


def _require_both(side: np.ndarray, outside: np.ndarray, totals: np.ndarray, ranked: np.ndarray) -> None:
    """Ensures images with objects in both validation and training if classes are too rare for their share."""
    objects = totals[:, :-1].sum(1) > 0
    if len(ranked) < 2:
        return
    if not (objects & (side == VAL)).any() and objects.any():
        candidates = [number for number in ranked.tolist() if objects[number]]
        side[next((number for number in candidates if _is_spare(totals[number], outside)), candidates[0])] = VAL
    if not (side == TRAIN).any():
        side[min(reversed(ranked.tolist()), key=lambda number: bool(objects[number]))] = TRAIN


def _is_spare(of_group: np.ndarray, outside: np.ndarray) -> bool:
    """Returns whether each class of a group is also in another group outside validation."""
    return bool((outside[of_group > 0] > 1).all())


def _key(file: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {file}".encode("utf-8", "surrogateescape")).digest()
