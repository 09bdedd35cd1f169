"""The nearest-hash search, compared with brute force over all pairs."""

import hashlib

import numpy as np
import pytest

from resdet.detection.check.duplicates import content_hash
from resdet.detection.check.nearest import nearest
from resdet.images.dhash import THRESHOLD


def flipped(value: int, bits) -> int:
    for bit in bits:
        value ^= 1 << int(bit)
    return value


def test_nearest_hashes_equal_a_comparison_of_all_pairs():
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


@pytest.mark.parametrize("bits", [(0, 16, 32), (15, 31, 47), (63, 1, 2), (16, 32, 48)])
def test_three_bits_in_any_bands_are_found(bits):
    value = 0x123456789ABCDEF0
    others, distances = nearest(np.array([value, flipped(value, bits)], np.uint64), np.zeros(2))
    assert others.tolist() == [-1, 0] and distances.tolist() == [0, 3]
    others, _ = nearest(np.array([value, flipped(value, (*bits, 60))], np.uint64), np.zeros(2))
    assert others.tolist() == [-1, -1]


def test_the_hash_of_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 500_000)
    assert content_hash(str(tmp_path / "a")) == hashlib.sha256(b"abc" * 500_000).hexdigest()
    assert content_hash(str(tmp_path / "missing")) is None
