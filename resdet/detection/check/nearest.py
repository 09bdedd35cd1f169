"""Finds the nearest earlier image of each image by the Hamming distance of their hashes."""

import numpy as np

from resdet.images.dhash import THRESHOLD, bit_count, candidates


def nearest(hashes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest earlier hash within the threshold for each of n hashes, int64 [n], -1 for none, and
    distances.

    Hashes of other groups are preferred to those of the same group. Almost uniform images have none.
    """
    others, costs = np.full(len(hashes), -1, np.int64), np.full(len(hashes), 2 * 64, np.int64)
    for members in candidates(hashes):
        _compare(hashes, groups, members, others, costs)
    return others, np.where(others < 0, 0, costs % 64)


def _compare(
    hashes: np.ndarray, groups: np.ndarray, members: np.ndarray, others: np.ndarray, costs: np.ndarray
) -> None:
    """Updates the nearest hashes with the pairs of `members`, which ascend."""
    for k, i in enumerate(members[:-1].tolist()):
        later = members[k + 1 :]
        distances = bit_count(hashes[later] ^ hashes[i]).astype(np.int64)
        cost = distances + 64 * (groups[later] == groups[i])
        better = (distances <= THRESHOLD) & (cost < costs[later])
        others[later[better]], costs[later[better]] = i, cost[better]
