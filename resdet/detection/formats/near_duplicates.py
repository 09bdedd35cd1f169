"""Near-duplicate images, such as frames of a video or copies at another size or quality, by a perceptual hash."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from resdet.data.image_headers import WORKERS
from resdet.errors import DataError
from resdet.images.decode import read_image

SIDE = 8  # of the grid of comparisons
THRESHOLD = 3  # differing bits of 64 up to which two images are near-duplicates
BANDS = THRESHOLD + 1  # of 16 bits: two hashes within the threshold agree in at least one
FLAT = 4  # bits set up to which a hash says nothing: the image is almost uniform


def dhash(file: Path | str) -> int:
    """The difference hash of an image file: 64 comparisons of horizontal neighbors, the image reduced to 9 × 8 gray
    values; 0 if it cannot be read."""
    import cv2

    try:
        pixels = read_image(file, "restore it").decode((SIDE + 1, SIDE))
    except DataError:
        return 0
    gray = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    bits = np.packbits(gray[:, 1:] > gray[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def hashes_of(root: Path, files: Sequence[str]) -> list[int]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda file: dhash(root / file), files))


def group(hashes: Sequence[int]) -> np.ndarray:
    """int64 [n]: the first image of each image's group. Near-duplicates share a group, and so do their near-duplicates.

    Almost uniform images form groups of their own.
    """
    values = np.array(hashes, np.uint64)
    parents = np.arange(len(values))
    informative = np.flatnonzero((_bits(values) > FLAT) & (_bits(~values) > FLAT))
    for band in range(BANDS):
        keys = (values[informative] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = informative[np.argsort(keys, kind="stable")]
        starts = np.flatnonzero(np.diff(np.sort(keys), prepend=-1.0))
        for members in np.split(order, starts[1:]):
            _unite(values, members, parents)
    return np.array([_root(parents, i) for i in range(len(values))], np.int64)


def _unite(values: np.ndarray, members: np.ndarray, parents: np.ndarray) -> None:
    """Joins the near-duplicates among images that agree in a band."""
    for k, i in enumerate(members[:-1].tolist()):
        rest = members[k + 1 :]
        for j in rest[_bits(values[rest] ^ values[i]) <= THRESHOLD].tolist():
            a, b = sorted((_root(parents, i), _root(parents, j)))
            parents[b] = a


def _root(parents: np.ndarray, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i


def _bits(values: np.ndarray) -> np.ndarray:
    """Number of set bits of uint64 [n]."""
    return np.unpackbits(np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8), axis=1).sum(1)
