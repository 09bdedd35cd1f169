"""Tests difference hashes of images whose hash is known."""

import cv2
import numpy as np
import pytest

from resdet.images.dhash import bit_count, candidates, dhash, dhash_of

# Each value fills a cell of 10 × 10 pixels, so that the reduction to 9 × 8 is exact.
RISING = np.arange(9) * 20
ZIGZAG = np.array([0, 50, 0, 50, 0, 50, 0, 50, 0])


def cells(rows: np.ndarray) -> np.ndarray:
    """Returns gray pixels, uint8 [80, 90], of values [8, 9] or [9]."""
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


def test_the_hash_of_a_file_at_several_sizes(tmp_path):
    for scale in (1, 4, 16):
        pixels = np.kron(cells(ZIGZAG), np.ones((scale, scale), np.uint8))
        cv2.imwrite(str(tmp_path / "zigzag.png"), pixels)
        cv2.imwrite(str(tmp_path / "zigzag.jpg"), pixels)
        assert dhash(tmp_path / "zigzag.png") == dhash(tmp_path / "zigzag.jpg") == 0xAAAAAAAAAAAAAAAA
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert dhash(tmp_path / "broken.jpg") == 0


def test_the_hash_of_a_missing_file_is_zero(tmp_path):
    assert dhash(tmp_path / "missing.png") == 0


def test_bit_counts_and_hashes_of_uniform_images():
    values = np.array([0, 1, 2**63, 2**64 - 1, 0xF, 0x1F], np.uint64)
    assert bit_count(values).tolist() == [0, 1, 1, 64, 4, 5]
    for given in (values, ~values):  # hashes with up to four ones or zeros are not compared
        assert {index for members in candidates(given) for index in members.tolist()} == {5}
