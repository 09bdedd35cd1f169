"""Groups near-duplicate images, to keep them on one side of a validation split."""

from collections.abc import Sequence

import numpy as np

from resdet.images.dhash import THRESHOLD, bit_count, candidates


def group(hashes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the first image of each image's group, int64 [n]; groups are transitive over near-duplicates.

    Each almost uniform image forms a separate group.
    """
    values = np.array(hashes, np.uint64)
    parents = np.arange(len(values))
    for members in candidates(values):
        _unite(values, members, parents)
    return np.array([_root(parents, i) for i in range(len(values))], np.int64)


def _unite(values: np.ndarray, members: np.ndarray, parents: np.ndarray) -> None:
    """Joins near-duplicates among images that agree in a band."""
    while len(members):
        queue, members = members[:1].tolist(), members[1:]
        while queue:
            i = queue.pop()
            is_near = bit_count(values[members] ^ values[i]) <= THRESHOLD
            near, members = members[is_near].tolist(), members[~is_near]
            queue += near
            for j in near:
                a, b = sorted((_root(parents, i), _root(parents, j)))
                parents[b] = a


def _root(parents: np.ndarray, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i
