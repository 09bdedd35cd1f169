"""Tests random erasing against torchvision's distribution of boxes."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision import transforms

from resdet.classification.data.erasing import erased_box, random_erasing


@pytest.mark.parametrize("size", [(224, 224), (100, 40)])
def test_boxes_follow_the_distribution_of_torchvision(size):
    area, ratio, draws = (0.02, 1 / 3), (0.3, 3.3), 1500
    rng = np.random.default_rng(0)
    ours = np.array([erased_box(size, rng, area, ratio) for _ in range(draws)], float)
    torch.manual_seed(0)
    blank = torch.empty(3, size[1], size[0])
    theirs = [transforms.RandomErasing.get_params(blank, area, ratio, [0.0])[:4] for _ in range(draws)]
    theirs = np.array(theirs, float)[:, [1, 0, 3, 2]]
    for measure in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
    ):
        assert ks_2samp(measure(ours), measure(theirs)).pvalue > 0.005


def test_erases_one_rectangle_with_noise_at_the_given_probability():
    flat = np.full((64, 64, 3), 77, np.uint8)
    rng = np.random.default_rng(0)
    results = [random_erasing(flat, rng, 0.4) for _ in range(400)]
    assert (flat == 77).all()
    changed = [(result != 77).any(-1) for result in results]
    erased = [mask for mask in changed if mask.any()]
    assert abs(len(erased) - 160) < 40
    noise = np.concatenate([result[mask].ravel() for result, mask in zip(results, changed)])
    for mask in erased:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.98  # a noise pixel equals (77, 77, 77) once in 16 million
        assert box.size <= 64 * 64 / 3 * 1.1
    counts = np.bincount(noise, minlength=256)
    assert chisquare(np.delete(counts, 77)).pvalue > 0.001


@pytest.mark.parametrize("shape", [(16, 48, 3), (48, 16, 3)])
def test_all_rows_and_columns_can_be_erased(shape):
    flat, rng = np.full(shape, 77, np.uint8), np.random.default_rng(0)
    changed = [(random_erasing(flat, rng, 1.0) != 77).any(-1) for _ in range(300)]
    assert np.any(changed, (0, 1)).all() and np.any(changed, (0, 2)).all()
    assert np.max(np.mean(changed, (1, 2))) < 0.4


def test_images_too_small_for_the_rectangle_are_unchanged():
    picture = np.random.default_rng(0).integers(0, 256, (1, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(random_erasing(picture, np.random.default_rng(0), 1.0, (0.5, 0.9)), picture)
