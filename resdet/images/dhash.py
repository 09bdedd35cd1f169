"""The difference hash of images, which finds near-duplicates: frames of a video, copies at another size or quality."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from resdet.errors import DataError
from resdet.images.decode import read_image
from resdet.threads import map_in_threads

SIDE = 8  # side of the grid of comparisons
THRESHOLD = 3  # maximum number of differing bits, of 64, between near-duplicates
BANDS = THRESHOLD + 1  # of 16 bits: two hashes within the threshold agree in at least one
FLAT = 4  # maximum number of ones or zeros in the hash of an almost uniform image, which is not informative


def dhash(file: Path | str) -> int:
    """Compares 64 pairs of horizontal neighbors in the image reduced to 9 × 8 gray values; 0 if it cannot be read."""
    import cv2

    try:
        pixels = read_image(file, "restore it").decode((4 * (SIDE + 1), 4 * SIDE))
    except DataError:
        return 0
    return dhash_of(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def dhash_of(gray: np.ndarray) -> int:
    """Returns the hash of uint8 [H, W]; the first comparison of the top row is the highest bit."""
    import cv2

    reduced = cv2.resize(gray, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(reduced[:, 1:] > reduced[:, :-1]).tobytes(), "big")


def hashes_of(files: Sequence[Path | str]) -> np.ndarray:
    """Returns the hashes of image files, uint64 [n]."""
    return np.array(map_in_threads(dhash, files, "hashing images"), np.uint64)


def candidates(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yields groups of hashes, uint64 [n], that agree in a band, as ascending indices: each pair of near-duplicates
    shares a group.

    Almost uniform images are in none.
    """
    informative = np.flatnonzero((bit_count(hashes) > FLAT) & (bit_count(~hashes) > FLAT))
    for band in range(BANDS):
        keys = (hashes[informative] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        yield from np.split(informative[order], np.flatnonzero(np.diff(keys[order])) + 1)


def bit_count(values: np.ndarray) -> np.ndarray:
    """Returns the number of ones in each value of uint64 [n]."""
    return np.unpackbits(np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8), axis=1).sum(1)
