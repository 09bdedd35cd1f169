"""Differences between runs on the same images, with paired bootstrap intervals that tell them from noise.

A resample draws n of n images with replacement, the same for both runs.
"""

from collections.abc import Sequence

import numpy as np

from resdet.results.sections import Cell

RESAMPLES, LEVEL = 200, 0.95
FEWEST = 6  # images for a verdict: in a sign test, 5 changes in one direction have p = 1/16, which is above 1 - LEVEL
PICTURES, MOST = 24, 6  # maximum number of images in all galleries of a comparison, and in each
ALL = "all classes"
COLUMNS = ("class", "metric", "first", "this", "difference", "low", "high", "verdict")


def resample(images: int, count: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Returns how often each image counts, int32 [1 + count, images]: once in the first row, then in each resample."""
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), count)
    return np.concatenate([np.ones((1, images)), drawn]).astype(np.int32)


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Returns the percentile interval of resampled values [R], ignoring NaN; None without values."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def row(
    name: str, metric: str, first: np.ndarray, other: np.ndarray, best: int, missing: str, images: int
) -> list[Cell]:
    """Returns a row of the table, from values [1 + R], first on the data set itself, then on its resamples.

    `best`: 1 if higher values are better, -1 if lower values are; `missing`: the verdict without a value; `images`: the
    number of images with objects. The resamples of fewer than `FEWEST` differ too little to show the noise.
    """
    if np.isnan(first[0]):
        return [name, metric, *[None] * 5, missing]
    difference = other - first
    low, high = interval(difference[1:]) or (0.0, 0.0)
    verdict = "better" if low * best > 0 else "worse"
    if low <= 0 <= high:
        verdict = "noise"
    elif images < FEWEST:
        verdict = "few images"
    return [name, metric, float(first[0]), float(other[0]), float(difference[0]), low, high, verdict]


def explanation(first: str, other: str, images: int) -> str:
    return (
        f"Differences of {other} from {first}, with 95 % intervals of {RESAMPLES} resamples of the {images} images, "
        "the same for both runs. A difference whose interval contains zero is noise. "
        f"A class in fewer than {FEWEST} images has no verdict."
    )


def room(others: int) -> int:
    """Returns the number of images in each of the two galleries of a run."""
    return min(MOST, max(1, PICTURES // (2 * others)))


def most(counts: np.ndarray, room: int) -> list[int]:
    """Returns the indices of the `room` highest positive counts."""
    ranked: Sequence[int] = np.argsort(-counts, kind="stable")[:room].tolist()
    return [place for place in ranked if counts[place] > 0]
