"""Tests random sampling of positives and negatives: order, counts and uniform probability."""

import pytest
import torch

from resdet.ops.sampler import sample


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def marks(positives: int, negatives: int, total: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the positives and the negatives among one image's candidates, in random order."""
    order = torch.randperm(total)
    positive, negative = torch.zeros(2, 1, total, dtype=torch.bool)
    positive[0, order[:positives]] = True
    negative[0, order[positives : positives + negatives]] = True
    return positive, negative


@pytest.mark.parametrize(
    "positives, negatives, total, drawn_positive, drawn",
    [
        (100, 500, 1000, 8, 32),  # the quota is filled
        (3, 500, 1000, 3, 32),  # negatives fill the rest
        (3, 10, 1000, 3, 13),  # both are too few
        (100, 0, 1000, 8, 8),
        (0, 0, 1000, 0, 0),
        (2, 5, 7, 2, 7),  # fewer candidates than samples
        (0, 0, 0, 0, 0),
    ],
)
def test_counts(positives, negatives, total, drawn_positive, drawn):
    is_positive, is_negative = marks(positives, negatives, total)
    indices, positive, valid = sample(is_positive, is_negative, 32, 8)
    assert indices.shape == positive.shape == valid.shape == (1, 32)
    assert positive[0].tolist() == [True] * drawn_positive + [False] * (32 - drawn_positive)
    assert valid[0].tolist() == [True] * drawn + [False] * (32 - drawn)
    chosen = indices[0, :drawn]
    assert len(chosen.unique()) == drawn
    assert is_positive[0, chosen[:drawn_positive]].all()
    assert is_negative[0, chosen[drawn_positive:]].all()
    assert not indices[0, drawn:].any()


def test_each_image_has_its_own_quota():
    few, many = marks(1, 50, 60), marks(40, 20, 60)
    _, positive, valid = sample(*(torch.cat(pair) for pair in zip(few, many)), 16, 4)
    assert positive.sum(1).tolist() == [1, 4]
    assert valid.all()


def test_the_choice_is_uniform():
    """Draws 3 of 10 positives and 5 of 20 negatives 20,000 times; each count is within five standard deviations."""
    draws = 20_000
    positive = (torch.arange(40) < 10).expand(draws, 40)
    negative = ((torch.arange(40) >= 10) & (torch.arange(40) < 30)).expand(draws, 40)
    indices, _, _ = sample(positive, negative, 8, 3)
    counts = indices.flatten().bincount(minlength=40).double()
    for part, probability in ((slice(0, 10), 3 / 10), (slice(10, 30), 5 / 20), (slice(30, 40), 0.0)):
        deviation = (draws * probability * (1 - probability)) ** 0.5
        assert ((counts[part] - draws * probability).abs() <= 5 * deviation).all()
