"""COCO's run-length encoding: decompressed and checked before any C code sees it.

Runs go down the columns one after another, the first of them outside of the object; together they are as long as the
image has pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from resdet.detection.data.validation import whole_numbers

BITS, MORE, SIGN, ZERO = 5, 32, 16, 48  # of the characters of a compressed RLE
LONGEST = 6  # characters of a number below 2**29
ALPHABET = bytes(range(ZERO, ZERO + 2 * MORE))
MINUS_ONE, TOO_LONG = b"O", -(2**40)  # runs that no mask has
CHUNK = 1024  # masks at a time, so that arrays stay in the processor's cache
OTHER_SIZE, NO_COUNTS, DAMAGED = "an RLE of another size than its image", "an RLE without counts", "a damaged RLE"


def runs_of(rles: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """The runs of n masks, int64 [R]; where those of each start, and the end [n + 1]; what is wrong with each.

    `rles` are dicts as COCO has them and `sizes` are (height, width). What is wrong has no runs.
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
    """What is wrong with each mask."""
    chunks = (slice(start, start + CHUNK) for start in range(0, len(rles), CHUNK))
    return [problem for chunk in chunks for problem in runs_of(rles[chunk], sizes[chunk])[2]]


def fitting(runs: np.ndarray, starts: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """bool [n]: no run is negative, and together they have so many pixels [n]. Each mask has a run at least."""
    if len(starts) < 2:
        return np.zeros(0, bool)
    return (np.minimum.reduceat(runs, starts[:-1]) >= 0) & (np.add.reduceat(runs, starts[:-1]) == pixels)


def all_fit(texts: Sequence[bytes], pixels: np.ndarray) -> bool:
    """Whether each compressed RLE has runs for so many pixels [n]."""
    return all(
        fitting(*decompress(texts[start : start + CHUNK]), pixels[start : start + CHUNK]).all()
        for start in range(0, len(texts), CHUNK)
    )


def decompress(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The runs of n compressed RLEs, int64 [R], and where those of each start [n + 1]; one run of -1 for damage."""
    texts = [text if _is_text(text) else MINUS_ONE for text in texts]
    codes = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(ZERO)
    last = np.flatnonzero(codes < MORE)
    starts = np.append(0, np.searchsorted(last, np.cumsum([len(text) for text in texts])))
    runs = _numbers(codes, last)
    # From its fourth number on a mask has differences from the run before the last: sums over every other number of
    # all masks, less the sum before each mask, are quicker than a loop over the masks.
    first = starts[:-1]
    sums = np.zeros(len(runs) + 2, np.int64)  # sums[i + 2] is that of the numbers i, i - 2, …
    for parity in (0, 1):
        np.cumsum(runs[parity::2], out=sums[2 + parity :: 2])
    for parity in (0, 1):
        alike = first % 2 == parity
        alone = runs[first[alike]]  # the third number is no difference, so that the first counts for itself alone
        before = np.where(alike, sums[first + 2], sums[first + 1])
        edges = (starts + 1 - parity) // 2
        runs[parity::2] = sums[2 + parity :: 2] - np.repeat(before, np.diff(edges))
        runs[first[alike]] = alone
    return runs, starts


def _numbers(codes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """int64 [R]: five bits a character, the lowest first; `last` are the places of the numbers' last characters."""
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
    """Numbers of the alphabet, the last of them with an end."""
    return text != b"" and not text.translate(None, ALPHABET) and text[-1] < ZERO + MORE


def _uncompressed(counts: list[Any]) -> np.ndarray:
    """The runs as they are, int64; one run of -1 for damage."""
    runs = whole_numbers(counts)
    return runs if len(runs) and not any(isinstance(count, float) for count in counts) else np.array([-1])


def _text(counts: str | bytes | list) -> bytes:
    """Empty where the counts are not compressed."""
    if isinstance(counts, str):
        return counts.encode("utf-8", "surrogatepass")
    return b"" if isinstance(counts, list) else counts


def _problem(rle: Any, size: tuple[int, int]) -> str | None:
    """What is wrong before the runs are looked at."""
    if not isinstance(rle, dict) or not isinstance(rle.get("counts"), (str, bytes, list)):
        return NO_COUNTS
    told = rle.get("size")
    whole = isinstance(told, (list, tuple)) and not any(isinstance(side, (float, bool)) for side in told)
    return None if whole and tuple(told) == tuple(size) else OTHER_SIZE
