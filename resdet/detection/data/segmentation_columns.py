"""Segmentations of COCO's files: checked, and packed into arrays of points, rings and runs."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from resdet.detection.data import rle
from resdet.detection.data.segmentation import Polygons, Segment, from_runs
from resdet.detection.data.validation import numbers

CHUNK = 4096  # objects at a time
FEWEST = 3  # points of a ring; those of fewer have no area and are left out
MARGIN = 1000  # pixels that a point may lie outside of any image; in a larger one, as many as that has
LONGEST = 2**23  # pixels of an object's outlines; drawing takes memory by their length
NEITHER = "a segmentation that is neither polygons nor RLE"
INFINITE = "a segmentation with NaN or infinite coordinates"
FAR = "a segmentation that reaches far out of its image"
TANGLED = f"outlines longer than {LONGEST} pixels"
TOO_FEW = "polygons of fewer than three points"

Problems = list[str | None]


class SegmentColumns:
    """The segments of n objects, one after another, in five arrays: points of rings of objects, and runs of objects.

    Points are kept as float32 and come back in thousandths of a pixel, which restores the decimals of COCO's files:
    drawing rounds them, and a last bit that differs would move edges.
    """

    names = ("points", "rings", "parts", "runs", "strips")

    @classmethod
    def pack(cls, segmentations: Sequence[Any], sizes: np.ndarray) -> tuple[dict[str, np.ndarray], Problems]:
        """The arrays, and what is wrong with each object or None; what is wrong has neither rings nor runs.

        `sizes` int64 [n, 2] are width and height of the objects' images. A segmentation is as in COCO's files:
        polygons, or RLE with numbers or compressed; None or an empty list says nothing.
        """
        points, rings, parts, runs, strips, problems = [], [], [], [], [], []
        for start in range(0, max(1, len(segmentations)), CHUNK):
            some, their_sizes = segmentations[start : start + CHUNK], sizes[start : start + CHUNK]
            masked = [isinstance(segmentation, dict) for segmentation in some]
            outlines = [None if mask else segmentation for mask, segmentation in zip(masked, some)]
            columns = _outlines(outlines, their_sizes)
            points.append(columns[0])
            rings.append(columns[1])
            parts.append(columns[2])
            lengths, found, wrong = _masks(some, masked, their_sizes)
            runs.append(lengths)
            strips.append(found)
            problems += [a or b for a, b in zip(columns[3], wrong)]
        offsets = lambda lengths: np.append(0, np.concatenate(lengths).cumsum()).astype(np.int64)
        columns = (
            np.concatenate(points).astype(np.float32),
            offsets(rings),
            offsets(parts),
            np.concatenate(runs).astype(np.uint32),
            offsets(strips),
        )
        return dict(zip(cls.names, columns)), problems

    @staticmethod
    def select(arrays: dict[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
        """Without objects that have neither rings nor runs; `kept` bool [n] are the others."""
        dropped = {name: np.append(0, arrays[name][1:][kept]) for name in ("parts", "strips")}
        return arrays | dropped

    @staticmethod
    def read(arrays: dict[str, np.ndarray], i: int, height: int) -> Segment | None:
        """The segment of object i, in a picture of this height."""
        start, end = arrays["strips"][i : i + 2]
        if start < end:
            return from_runs(arrays["runs"][start:end].astype(np.int64), height)
        start, end = arrays["parts"][i : i + 2]
        if start == end:
            return None
        first, *ends = arrays["rings"][start : end + 1].tolist()
        points = np.round(arrays["points"][first : ends[-1]].astype(np.float64), 3)
        return Polygons([points[a - first : b - first] for a, b in zip([first, *ends], ends)])


def _masks(
    segmentations: Sequence[Any], masked: list[bool], sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Problems]:
    """Runs [R], how many each of n objects has, and what is wrong; of those that are `masked`."""
    rows = np.flatnonzero(masked)
    shapes = [(height, width) for width, height in sizes[rows].tolist()]
    runs, starts, wrong = rle.runs_of([segmentations[row] for row in rows], shapes)
    counts, problems = np.zeros(len(masked), np.int64), [None] * len(masked)
    counts[rows] = np.diff(starts)
    for row, problem in zip(rows.tolist(), wrong):
        problems[row] = problem
    return runs, counts, problems


def _outlines(segmentations: list[Any], sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, Problems]:
    """Points float64 [P, 2], how many each ring has [R], how many rings each of n objects has, and what is wrong."""
    polygons = [[] if segmentation is None else segmentation for segmentation in segmentations]
    shaped = np.array([_is_polygons(each) for each in polygons], bool)
    polygons = [each if good else [] for each, good in zip(polygons, shaped.tolist())]
    rings = list(chain.from_iterable(polygons))
    values, numeric = numbers(list(chain.from_iterable(rings)))
    points, numeric = values.reshape(-1, 2), numeric.reshape(-1, 2).all(1)

    owners = np.repeat(np.arange(len(polygons)), [len(each) for each in polygons])  # of the rings
    lengths = np.array([len(ring) // 2 for ring in rings], np.int64)
    of_point = np.repeat(owners, lengths)
    having = lambda wrong: np.bincount(of_point[wrong], minlength=len(polygons)) > 0
    long_enough = lengths >= FEWEST
    finite = np.isfinite(points).all(1)
    margin = np.maximum(sizes, MARGIN)
    near = ((points >= -margin[of_point]) & (points <= (sizes + margin)[of_point])).all(1)
    kinds = {
        NEITHER: ~shaped | having(~numeric),
        INFINITE: having(~finite),
        FAR: having(~near),
        TOO_FEW: (np.bincount(owners, minlength=len(polygons)) > 0)
        & (np.bincount(owners[long_enough], minlength=len(polygons)) == 0),
        TANGLED: _perimeters(points, lengths, owners, len(polygons)) > LONGEST,
    }
    problems: Problems = [None] * len(polygons)
    for what, wrong in reversed(kinds.items()):
        for i in np.flatnonzero(wrong).tolist():
            problems[i] = what
    good = np.array([problem is None for problem in problems], bool)
    kept = long_enough & good[owners]
    return (
        points[np.repeat(kept, lengths)],
        lengths[kept],
        np.bincount(owners[kept], minlength=len(polygons)),
        problems,
    )


def _is_polygons(segmentation: Any) -> bool:
    """Lists of an even number of something."""
    return isinstance(segmentation, list) and all(isinstance(ring, list) and not len(ring) % 2 for ring in segmentation)


def _perimeters(points: np.ndarray, lengths: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
    """float64 [count]: how far it is around the rings of each object, along the axes; what is infinite counts 0."""
    ends = np.cumsum(lengths)[lengths > 0]
    starts = ends - lengths[lengths > 0]
    before = np.arange(len(points)) - 1
    before[starts] = ends - 1
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.abs(points - points[before]).sum(1)
    return np.bincount(np.repeat(owners, lengths), np.nan_to_num(steps, posinf=0.0), minlength=count)
