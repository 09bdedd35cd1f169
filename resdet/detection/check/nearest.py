"""The nearest earlier image of each image by the Hamming distance of their hashes."""

import numpy as np

from resdet.images.dhash import THRESHOLD, bit_count, candidates


def nearest(hashes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of n hashes the nearest earlier one within the threshold, int64 [n], -1 for none; and the distances.

    One of another group is preferred to one of the same. Almost uniform images have none.
    """
    others, costs = np.full(len(hashes), -1, np.int64), np.full(len(hashes), 2 * 64, np.int64)
    for members in candidates(hashes):
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
