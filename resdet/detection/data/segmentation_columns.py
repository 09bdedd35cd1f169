"""Checks COCO segmentations and packs them into arrays of points, rings and runs."""

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from resdet.detection.data import rle
from resdet.detection.data.segmentation import Polygons, Segment, from_runs
from resdet.detection.data.validation import numbers

CHUNK = 4096  # objects at a time
SPANS = 2**16  # spans copied at a time
MARGIN = 1000  # pixels; points may lie outside the image by up to this or, if larger, the image's side
LONGEST = 2**23  # pixels of an object's outlines; drawing memory grows with their length
NEITHER = "a segmentation that is neither polygons nor RLE"
INFINITE = "a segmentation with NaN or infinite coordinates"
FAR = "a segmentation that reaches far out of its image"
TANGLED = f"outlines longer than {LONGEST} pixels"
TOO_FEW = "polygons of fewer than three points"

Problems = list[str | None]


class SegmentColumns:
    """Segments of n objects, packed into five arrays: points of rings of objects, and runs of objects.

    Points are stored as float32 and rounded to thousandths of a pixel on reading, which restores the decimals of COCO's
    files; a different last bit could move drawn edges.
    """

    names = ("points", "rings", "parts", "runs", "strips")

    @classmethod
    def pack(cls, segmentations: Iterable[Any], sizes: np.ndarray) -> tuple[dict[str, np.ndarray], Problems]:
        """Returns the arrays, and a problem or None per object; objects with a problem have neither rings nor runs.

        `sizes` int64 [n, 2]: width and height of the objects' images. Segmentations have COCO's format: polygons, or
        RLE, uncompressed or compressed; None or an empty list if missing. They are iterated once, in order.
        """
        columns: tuple[list[np.ndarray], ...] = ([], [], [], [], [])
        problems: Problems = []
        given = iter(segmentations)
        for start in range(0, max(1, len(sizes)), CHUNK):
            *chunk, chunk_problems = _packed(list(islice(given, CHUNK)), sizes[start : start + CHUNK])
            problems += chunk_problems
            for column, part in zip(columns, chunk):
                column.append(part)
        points, rings, parts, runs, strips = map(_joined, columns)
        return dict(zip(cls.names, (points, _offsets(rings), _offsets(parts), runs, _offsets(strips)))), problems

    @classmethod
    def take(cls, arrays: dict[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the arrays of the objects with indices `order` int64 [m]."""
        if np.array_equal(order, np.arange(len(arrays["parts"]) - 1)):
            return arrays
        rings, parts = _gathered(np.diff(arrays["rings"]), arrays["parts"], order)
        starts = _gathered(arrays["rings"][:-1], arrays["parts"], order)[0]
        points = _spans(arrays["points"], starts, rings)
        runs, strips = _gathered(arrays["runs"], arrays["strips"], order)
        return dict(zip(cls.names, (points, _offsets(rings), _offsets(parts), runs, _offsets(strips))))

    @classmethod
    def without(cls, count: int) -> dict[str, np.ndarray]:
        """Returns the arrays of `count` objects without segments."""
        arrays, _ = cls.pack([], np.zeros((0, 2), np.int64))
        return arrays | {name: np.zeros(count + 1, np.int64) for name in ("parts", "strips")}

    @staticmethod
    def select(arrays: dict[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
        """Removes objects without rings and runs; `kept` bool [n] marks the others."""
        dropped = {name: np.append(0, arrays[name][1:][kept]) for name in ("parts", "strips")}
        return arrays | dropped

    @staticmethod
    def read(arrays: dict[str, np.ndarray], i: int, height: int) -> Segment | None:
        """Returns the segment of object i, in an image of this height, or None."""
        start, end = arrays["strips"][i : i + 2]
        if start < end:
            return from_runs(arrays["runs"][start:end].astype(np.int64), height)
        start, end = arrays["parts"][i : i + 2]
        if start == end:
            return None
        first, *ends = arrays["rings"][start : end + 1].tolist()
        points = np.round(arrays["points"][first : ends[-1]].astype(np.float64), 3)
        return Polygons([points[a - first : b - first] for a, b in zip([first, *ends], ends)])


def _packed(segmentations: list[Any], sizes: np.ndarray) -> tuple[Any, ...]:
    """Returns points float32 [P, 2], points per ring [R], rings and runs per object [n], runs uint32, problems [n].

    Use it on few objects at a time, since intermediate lists take several times this memory.
    """
    if all(segmentation is None for segmentation in segmentations):  # as in a file with boxes only
        none = np.zeros(len(segmentations), np.int64)
        return np.zeros((0, 2), np.float32), none[:0], none, np.zeros(0, np.uint32), none, [None] * len(segmentations)
    masked = [isinstance(segmentation, dict) for segmentation in segmentations]
    outlines = [None if mask else segmentation for mask, segmentation in zip(masked, segmentations)]
    points, rings, parts, polygon_problems = _outlines(outlines, sizes)
    runs, strips, mask_problems = _masks(segmentations, masked, sizes)
    problems = [a or b for a, b in zip(polygon_problems, mask_problems)]
    return points.astype(np.float32), rings, parts, runs.astype(np.uint32), strips, problems


def _offsets(counts: np.ndarray) -> np.ndarray:
    """Returns where each object's values start and end, int64 [n + 1], from the counts per object [n]."""
    return np.append(0, counts.cumsum()).astype(np.int64)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates the parts and empties the list, which frees each part once it is copied."""
    joined = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    end = len(joined)
    while parts:
        part = parts.pop()
        joined[end - len(part) : end] = part
        end -= len(part)
    return joined


def _gathered(values: np.ndarray, offsets: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the values of the objects `order`, and their number per object; object i starts at offsets[i]."""
    counts = np.diff(offsets)[order]
    return _spans(values, offsets[order], counts), counts


def _spans(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Concatenates the spans values[start : start + count]."""
    gathered = np.empty((int(counts.sum()), *values.shape[1:]), values.dtype)
    end = 0
    for k in range(0, len(starts), SPANS):
        some = counts[k : k + SPANS]
        before = np.cumsum(some) - some
        rows = np.repeat(starts[k : k + SPANS] - before, some) + np.arange(int(some.sum()))
        gathered[end : end + len(rows)] = values[rows]
        end += len(rows)
    return gathered


def _masks(
    segmentations: Sequence[Any], masked: list[bool], sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Problems]:
    """Returns runs [R], number of runs per object [n], and problems [n] of the `masked` objects."""
    rows = np.flatnonzero(masked)
    shapes = [(height, width) for width, height in sizes[rows].tolist()]
    runs, starts, mask_problems = rle.runs_of([segmentations[row] for row in rows.tolist()], shapes)
    counts = np.zeros(len(masked), np.int64)
    counts[rows] = np.diff(starts)
    problems: Problems = [None] * len(masked)
    for row, problem in zip(rows.tolist(), mask_problems):
        problems[row] = problem
    return runs, counts, problems


def _outlines(segmentations: list[Any], sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, Problems]:
    """Returns points float64 [P, 2], number of points per ring [R], rings per object [n], and problems [n]."""
    polygons = [[] if segmentation is None else segmentation for segmentation in segmentations]
    nested = np.array([_is_polygons(each) for each in polygons], bool)
    polygons = [each if good else [] for each, good in zip(polygons, nested.tolist())]
    rings = list(chain.from_iterable(polygons))
    points, numeric = (column.reshape(-1, 2) for column in numbers(list(chain.from_iterable(rings))))

    owners = np.repeat(np.arange(len(polygons)), [len(each) for each in polygons])  # object of each ring
    lengths = np.array([len(ring) // 2 for ring in rings], np.int64)
    point_owners = np.repeat(owners, lengths)
    having = lambda points: np.bincount(point_owners[points], minlength=len(polygons)) > 0
    long_enough = lengths >= rle.MIN_POINTS
    finite = np.isfinite(points).all(1)
    margin = np.maximum(sizes, MARGIN)
    near = ((points >= -margin[point_owners]) & (points <= (sizes + margin)[point_owners])).all(1)
    kinds: dict[str, np.ndarray] = {
        NEITHER: ~nested | having(~numeric.all(1)),
        INFINITE: having(~finite),
        FAR: having(~near),
        TOO_FEW: (np.bincount(owners, minlength=len(polygons)) > 0)
        & (np.bincount(owners[long_enough], minlength=len(polygons)) == 0),
        TANGLED: _perimeters(points, lengths, owners, len(polygons)) > LONGEST,
    }
    problems: Problems = [None] * len(polygons)
    for problem, bad in reversed(kinds.items()):
        for i in np.flatnonzero(bad).tolist():
            problems[i] = problem
    good = np.array([problem is None for problem in problems], bool)
    kept = long_enough & good[owners]
    return (
        points[np.repeat(kept, lengths)],
        lengths[kept],
        np.bincount(owners[kept], minlength=len(polygons)),
        problems,
    )


def _is_polygons(segmentation: Any) -> bool:
    """Returns whether the value is a list of lists of even length."""
    return isinstance(segmentation, list) and all(isinstance(ring, list) and not len(ring) % 2 for ring in segmentation)


def _perimeters(points: np.ndarray, lengths: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
    """Returns the L1 length of each object's rings, float64 [count]; infinite steps count 0."""
    ends = np.cumsum(lengths)[lengths > 0]
    starts = ends - lengths[lengths > 0]
    before = np.arange(len(points)) - 1
    before[starts] = ends - 1
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.abs(points - points[before]).sum(1)
    return np.bincount(np.repeat(owners, lengths), np.nan_to_num(steps, posinf=0.0), minlength=count)
