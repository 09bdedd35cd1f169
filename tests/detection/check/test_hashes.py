"""Hashes of pictures that have a closed form, and the nearest hashes against a comparison of all pairs."""

import hashlib

import cv2
import numpy as np
import pytest

from resdet.detection.check.dhash import THRESHOLD, bit_count, dhash, dhash_of, informative, nearest
from resdet.detection.check.duplicates import content_hash

# Each value is that of a cell of 10 × 10 pixels: the reduction to 9 × 8 is exact.
RISING = np.arange(9) * 20
ZIGZAG = np.array([0, 50, 0, 50, 0, 50, 0, 50, 0])


def cells(rows: np.ndarray) -> np.ndarray:
    """Gray pixels uint8 [80, 90] of values [8, 9] or [9]."""
    return np.kron(np.broadcast_to(rows, (8, 9)), np.ones((10, 10))).astype(np.uint8)


@pytest.mark.parametrize(
    "rows, expected",
    [
        (RISING, 2**64 - 1),
        (RISING[::-1], 0),
        (np.full(9, 77), 0),
        (ZIGZAG, 0xAAAAAAAAAAAAAAAA),
        (ZIGZAG[::-1] + 0, 0xAAAAAAAAAAAAAAAA),
        (np.where(np.arange(8)[:, None] < 1, RISING, RISING[::-1]), 0xFF00000000000000),
        (np.where(np.arange(9) < 8, 0, 255), 0x0101010101010101),
    ],
)
def test_the_hash_of_a_pattern(rows, expected):
    assert dhash_of(cells(rows)) == expected


def test_the_hash_of_a_file_is_that_of_its_pixels_at_any_size(tmp_path):
    for scale in (1, 4, 16):
        pixels = np.kron(cells(ZIGZAG), np.ones((scale, scale), np.uint8))
        cv2.imwrite(str(tmp_path / "zigzag.png"), pixels)
        cv2.imwrite(str(tmp_path / "zigzag.jpg"), pixels)
        assert dhash(tmp_path / "zigzag.png") == dhash(tmp_path / "zigzag.jpg") == 0xAAAAAAAAAAAAAAAA
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert dhash(tmp_path / "broken.jpg") == 0


def test_bits_and_uniform_pictures():
    values = np.array([0, 1, 2**63, 2**64 - 1, 0x7F, 0xFF], np.uint64)
    assert bit_count(values).tolist() == [0, 1, 1, 64, 7, 8]
    assert informative(values).tolist() == [False] * 5 + [True]
    assert informative(~values).tolist() == [False] * 5 + [True]


def flipped(value: int, bits) -> int:
    for bit in bits:
        value ^= 1 << int(bit)
    return value


def test_the_nearest_hashes_are_those_of_all_pairs():
    rng = np.random.default_rng(1)
    values = [int(value) for value in rng.integers(0, 2**64, 60, np.uint64)]
    for _ in range(240):
        near = values[rng.integers(len(values))]
        values.append(flipped(near, rng.choice(64, rng.integers(0, 8), replace=False)))
    hashes, groups = np.array(values, np.uint64), rng.integers(0, 2, len(values))
    others, distances = nearest(hashes, groups)
    for j, value in enumerate(values):
        pairs = [(groups[i] == groups[j], (values[i] ^ value).bit_count(), i) for i in range(j)]
        pairs = [pair for pair in pairs if pair[1] <= THRESHOLD]
        if not pairs:
            assert others[j] == -1
            continue
        same_group, distance, _ = min(pairs)
        assert (groups[others[j]] == groups[j], distances[j]) == (same_group, distance)
        assert (values[others[j]] ^ value).bit_count() == distance and others[j] < j
    assert (others >= 0).sum() > 100 and (others < 0).sum() > 60


@pytest.mark.parametrize("bits", [(0, 13, 26, 39), (12, 25, 38, 51), (63, 1, 2, 3), (0, 16, 32, 48)])
def test_four_bits_in_any_bands_are_found(bits):
    value = 0x123456789ABCDEF0
    others, distances = nearest(np.array([value, flipped(value, bits)], np.uint64), np.zeros(2))
    assert others.tolist() == [-1, 0] and distances.tolist() == [0, 4]
    others, _ = nearest(np.array([value, flipped(value, (*bits, 60))], np.uint64), np.zeros(2))
    assert others.tolist() == [-1, -1]


def test_the_hash_of_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 500_000)
    assert content_hash(str(tmp_path / "a")) == hashlib.sha256(b"abc" * 500_000).hexdigest()
    assert content_hash(str(tmp_path / "missing")) is None
