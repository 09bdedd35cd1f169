"""The difference hash of images, and the nearest ones by Hamming distance."""

from pathlib import Path

import numpy as np

from resdet.errors import DataError
from resdet.images.decode import read_image

SIDE = 8  # of the grid of comparisons
THRESHOLD = 4  # differing bits of 64 up to which two images are near-duplicates
FLAT = 8  # bits; a hash with fewer ones or zeros is that of an almost uniform image, and tells nothing
BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # start and bits: within the threshold, one of five agrees


def dhash(file: Path | str) -> int:
    """64 comparisons of horizontal neighbors in the image reduced to 9 × 8 gray values; 0 if it cannot be read."""
    import cv2

    try:
        pixels = read_image(file, "restore it").decode((4 * (SIDE + 1), 4 * SIDE))
    except DataError:
        return 0
    return dhash_of(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def dhash_of(gray: np.ndarray) -> int:
    """The hash of uint8 [H, W]; the first comparison of the top row is the highest bit."""
    import cv2

    reduced = cv2.resize(gray, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(reduced[:, 1:] > reduced[:, :-1]).tobytes(), "big")


def informative(hashes: np.ndarray) -> np.ndarray:
    """bool [n]: whether the hashes, uint64 [n], are not of almost uniform images."""
    return (bit_count(hashes) >= FLAT) & (bit_count(~hashes) >= FLAT)


def nearest(hashes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of n hashes the nearest earlier one within the threshold, int64 [n], -1 for none; and the distances.

    One of another group is preferred to one of the same.
    """
    others, costs = np.full(len(hashes), -1, np.int64), np.full(len(hashes), 2 * 64, np.int64)
    for start, bits in BANDS:
        keys = (hashes >> np.uint64(start)) & np.uint64(2**bits - 1)
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(np.diff(keys[order])) + 1
        for members in np.split(order, edges):
            _compare(hashes, groups, members, others, costs)
    return others, np.where(others < 0, 0, costs % 64)


def _compare(
    hashes: np.ndarray, groups: np.ndarray, members: np.ndarray, others: np.ndarray, costs: np.ndarray
) -> None:
    """Updates the nearest ones by the pairs of members, which are ascending."""
    for k, i in enumerate(members[:-1].tolist()):
        later = members[k + 1 :]
        distances = bit_count(hashes[later] ^ hashes[i]).astype(np.int64)
        cost = distances + 64 * (groups[later] == groups[i])
        better = (distances <= THRESHOLD) & (cost < costs[later])
        others[later[better]], costs[later[better]] = i, cost[better]


def bit_count(values: np.ndarray) -> np.ndarray:
    """Number of ones of uint64 [n]."""
    return np.unpackbits(np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8), axis=1).sum(1)
