"""COCO's run-length encoding: conversion of polygons, and decompression and validation ahead of C code.

Runs are column-major and start with background; their sum is the number of pixels of the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from resdet.detection.data.validation import whole_numbers

BITS, MORE, SIGN, ZERO = 5, 32, 16, 48  # of the characters of a compressed RLE
LONGEST = 6  # characters per number, for numbers below 2**29
ALPHABET = bytes(range(ZERO, ZERO + 2 * MORE))
MINUS_ONE, TOO_LONG = b"O", -(2**40)  # invalid runs that mark damage
MIN_POINTS = 3  # per ring; rings with fewer have no area and are dropped
CHUNK = 1024  # masks at a time, so that arrays fit in the CPU cache
OTHER_SIZE, NO_COUNTS, DAMAGED = "an RLE of another size than its image", "an RLE without counts", "a damaged RLE"


def as_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """Converts polygons or an uncompressed RLE to a compressed RLE."""
    from hotcoco import mask

    if isinstance(segmentation, list):
        return mask.merge(mask.frPyObjects(without_slivers(segmentation), height, width))
    return mask.frPyObjects(segmentation, height, width) if isinstance(segmentation["counts"], list) else segmentation


def without_slivers(rings: list) -> list:
    """Keeps the rings with at least three points; pycocotools would read one with two points as a box."""
    return [ring for ring in rings if len(ring) >= 2 * MIN_POINTS]


def runs_of(rles: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """Returns the runs of n masks, int64 [R], offsets of each mask's runs [n + 1], and a problem or None per mask.

    `rles` are COCO's dicts and `sizes` are (height, width). Masks with a problem have no runs.
    """
    problems = [_problem(rle, size) for rle, size in zip(rles, sizes)]
    pixels = np.array([height * width for height, width in sizes], np.int64)
    texts = [b"" if problem else _text(rle["counts"]) for rle, problem in zip(rles, problems)]
    runs, starts = decompress(texts)
    lists = [i for i, rle in enumerate(rles) if not problems[i] and isinstance(rle["counts"], list)]
    if lists:
        pieces = np.split(runs, starts[1:-1])
        for i in lists:
            pieces[i] = _uncompressed(rles[i]["counts"])
        runs, starts = np.concatenate(pieces), np.cumsum([0, *map(len, pieces)])
    damaged = ~fitting(runs, starts, pixels)
    problems = [problem or (DAMAGED if bad else None) for problem, bad in zip(problems, damaged.tolist())]
    lengths = np.where(damaged, 0, np.diff(starts))
    return runs[np.repeat(~damaged, np.diff(starts))], np.append(0, lengths.cumsum()), problems


def problems_of(rles: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> list[str | None]:
    """Returns a problem or None for each mask."""
    chunks = (slice(start, start + CHUNK) for start in range(0, len(rles), CHUNK))
    return [problem for chunk in chunks for problem in runs_of(rles[chunk], sizes[chunk])[2]]


def fitting(runs: np.ndarray, starts: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Returns bool [n]: no run is negative and the runs sum to `pixels` [n]; each mask needs at least one run."""
    if len(starts) < 2:
        return np.zeros(0, bool)
    return (np.minimum.reduceat(runs, starts[:-1]) >= 0) & (np.add.reduceat(runs, starts[:-1]) == pixels)


def all_fit(texts: Sequence[bytes], pixels: np.ndarray) -> bool:
    """Returns whether all compressed RLEs are valid for their number of pixels [n]."""
    return all(
        fitting(*decompress(texts[start : start + CHUNK]), pixels[start : start + CHUNK]).all()
        for start in range(0, len(texts), CHUNK)
    )


def decompress(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the runs of n compressed RLEs, int64 [R], and their offsets [n + 1]; a single run of -1 marks damage."""
    texts = [text if _is_text(text) else MINUS_ONE for text in texts]
    codes = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(ZERO)
    last = np.flatnonzero(codes < MORE)
    starts = np.append(0, np.searchsorted(last, np.cumsum([len(text) for text in texts])))
    runs = _numbers(codes, last)
    # From the fourth number on, RLEs store differences to the run two places before. Cumulative sums over every other
    # number of all masks, minus the sum before each mask, are faster than a loop over masks.
    first = starts[:-1]
    sums = np.zeros(len(runs) + 2, np.int64)  # sums[i + 2] is the sum of numbers i, i - 2, …
    for parity in (0, 1):
        np.cumsum(runs[parity::2], out=sums[2 + parity :: 2])
    for parity in (0, 1):
        same_parity = first % 2 == parity
        first_runs = runs[first[same_parity]]  # not part of any difference, nor is the third number
        before = np.where(same_parity, sums[first + 2], sums[first + 1])
        edges = (starts + 1 - parity) // 2
        runs[parity::2] = sums[2 + parity :: 2] - np.repeat(before, np.diff(edges))
        runs[first[same_parity]] = first_runs
    return runs, starts


def _numbers(codes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Decodes numbers, int64 [R]: five bits per character, lowest first; `last`: indices of each last character."""
    digits = codes & (MORE - 1)
    numbers = (digits[last] ^ SIGN).astype(np.int64) - SIGN
    lengths = np.diff(last, prepend=-1)
    longer, place = np.flatnonzero(lengths > 1), 1
    while len(longer) and place < LONGEST:
        numbers[longer] = (numbers[longer] << BITS) | digits[last[longer] - place]
        place += 1
        longer = longer[lengths[longer] > place]
    numbers[longer] = TOO_LONG
    return numbers


def _is_text(text: bytes) -> bool:
    """Returns whether all characters belong to the alphabet and the last number is complete."""
    return text != b"" and not text.translate(None, ALPHABET) and text[-1] < ZERO + MORE


def _uncompressed(counts: list[Any]) -> np.ndarray:
    """Returns uncompressed runs, int64; a single run of -1 marks damage."""
    runs = whole_numbers(counts)
    return runs if len(runs) and not any(isinstance(count, float) for count in counts) else np.array([-1])


def _text(counts: str | bytes | list) -> bytes:
    """Returns compressed counts as bytes; empty for uncompressed counts."""
    if isinstance(counts, str):
        return counts.encode("utf-8", "surrogatepass")
    return b"" if isinstance(counts, list) else counts


def _problem(rle: Any, size: tuple[int, int]) -> str | None:
    """Checks the keys and the size, not the runs."""
    if not isinstance(rle, dict) or not isinstance(rle.get("counts"), (str, bytes, list)):
        return NO_COUNTS
    declared = rle.get("size")
    if not isinstance(declared, (list, tuple)) or any(isinstance(side, (float, bool)) for side in declared):
        return OTHER_SIZE
    return None if tuple(declared) == tuple(size) else OTHER_SIZE
