"""Assigns groups of images to validation, with each class at the same share as nearly as groups allow."""

import hashlib
from collections.abc import Sequence

import numpy as np

TRAIN, VAL, NEW = 0, 1, -1


def stratify(
    files: Sequence[str], groups: np.ndarray, presence: np.ndarray, share: float, seed: int, sides: np.ndarray
) -> np.ndarray:
    """int64 [n] of TRAIN and VAL for n images; groups int64 [n] stay together.

    `presence` bool [n, C] is whether an image has the class. `sides` [n] are the sides of images that have one, which
    they keep, and NEW; a group with an image in training goes there, a group with one in validation only goes to it.
    From the rarest class on, its groups go to validation until it has its share; then those of images without
    objects. Training keeps a group of each class. The order of groups depends on the seed and on file names, not on the
    order of files.
    """
    _, groups = np.unique(groups, return_inverse=True)
    order = np.argsort([_key(file, seed) for file in files], kind="stable")
    count = int(groups.max(initial=-1)) + 1
    side = np.full(count, NEW)
    side[groups[sides == VAL]] = VAL
    side[groups[sides == TRAIN]] = TRAIN
    # Columns of what is to be shared out: images of each class, and at last all images.
    members = np.concatenate([presence, np.ones((len(files), 1), bool)], 1)
    totals = np.zeros((count, members.shape[1]), np.int64)
    np.add.at(totals, groups, members)
    ranked = groups[order[np.sort(np.unique(groups[order], return_index=True)[1])]]
    outside = (totals[side != VAL] > 0).sum(0)  # groups with each class that are not in validation
    for column in [*np.argsort(totals[:, :-1].sum(0), kind="stable").tolist(), -1]:
        _share_out(side, outside, totals, column, ranked, share)
    _require_both(side, outside, totals, ranked)
    return np.where(sides == NEW, side[groups], sides)


def _share_out(
    side: np.ndarray, outside: np.ndarray, totals: np.ndarray, column: int, ranked: np.ndarray, share: float
) -> None:
    """Decides the groups with a class: to validation while that brings it nearer to its share."""
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
    """Gives validation an image with objects, and training another, where classes are too rare for their share."""
    objects = totals[:, :-1].sum(1) > 0
    if len(ranked) < 2:
        return
    if not (objects & (side == VAL)).any() and objects.any():
        candidates = [number for number in ranked.tolist() if objects[number]]
        side[next((number for number in candidates if _is_spare(totals[number], outside)), candidates[0])] = VAL
    if not (side == TRAIN).any():
        side[min(reversed(ranked.tolist()), key=lambda number: bool(objects[number]))] = TRAIN


def _is_spare(of_group: np.ndarray, outside: np.ndarray) -> bool:
    """Whether each class of a group is in another one that is not in validation."""
    return bool((outside[of_group > 0] > 1).all())


def _key(file: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {file}".encode("utf-8", "surrogateescape")).digest()
