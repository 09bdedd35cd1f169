"""Checks the endless orders of training images."""

import numpy as np
import pytest

from resdet.data.samplers import GroupedSampler, ShuffleSampler


def test_each_pass_is_a_permutation():
    passes = ShuffleSampler(10, 30, seed=3).row(0).reshape(3, 10)
    assert all(sorted(one) == list(range(10)) for one in passes.tolist())
    assert len({tuple(one) for one in passes.tolist()}) == 3


def test_order_depends_on_seed_and_position_only():
    whole = ShuffleSampler(7, 50, seed=1).row(0)
    cut = np.concatenate([ShuffleSampler(7, 5, seed=1).row(step) for step in range(10)])
    np.testing.assert_array_equal(whole, cut)
    assert (ShuffleSampler(7, 50, seed=2).row(0) != whole).any()


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeated_augmentation(repeats):
    repeated = ShuffleSampler(5, 5 * repeats, seed=0, repeats=repeats).row(0)
    order = ShuffleSampler(5, 5, seed=0).row(0)
    np.testing.assert_array_equal(repeated.reshape(5, repeats), np.repeat(order[:, None], repeats, 1))
    assert ShuffleSampler(5, 5, 0, repeats).steps_per_epoch == repeats


GROUPS = np.random.default_rng(5).choice(4, 103, p=[0.6, 0.3, 0.08, 0.02])


def a_pass(order: GroupedSampler, number: int = 0) -> np.ndarray:
    rows = int(order.steps_per_epoch)
    return np.stack([order.row(number * rows + i) for i in range(rows)])


@pytest.mark.parametrize("batch", [1, 2, 8, 16, 103])
def test_grouped_pass_contains_every_image_and_few_duplicates(batch):
    order = GroupedSampler(GROUPS, batch, seed=2)
    assert order.steps_per_epoch == np.ceil(103 / batch)
    for number in range(3):
        counts = np.bincount(a_pass(order, number).ravel(), minlength=103)
        assert counts.min() == 1 and counts.sum() - 103 < batch


def test_grouped_batches_have_one_group_where_possible():
    for number in range(3):
        batches = GROUPS[a_pass(GroupedSampler(GROUPS, 8, seed=0), number)]
        mixed = [batch for batch in batches if np.ptp(batch) > 0]
        whole = sum(np.bincount(GROUPS) // 8)
        assert len(batches) - len(mixed) >= whole
        spans = sorted((batch.min(), batch.max()) for batch in mixed)
        assert all(low >= high for (_, high), (low, _) in zip(spans, spans[1:]))  # batches mix neighboring groups only


def test_grouped_order_depends_on_seed_and_step_only():
    steps = [0, 40, 3, 41, 13, 7]
    one = GroupedSampler(GROUPS, 8, seed=1)
    for step in steps:
        np.testing.assert_array_equal(one.row(step), GroupedSampler(GROUPS, 8, seed=1).row(step))
    assert not np.array_equal(a_pass(one), a_pass(GroupedSampler(GROUPS, 8, seed=2)))
    assert not np.array_equal(a_pass(one), a_pass(one, 1))


def test_grouped_batches_come_in_random_order():
    """Checks that the first batch of a pass comes from either group."""
    groups = np.repeat([0, 1], 40)
    order = GroupedSampler(groups, 8, seed=0)
    firsts = [groups[order.row(10 * number)[0]] for number in range(40)]
    assert 8 < sum(firsts) < 32


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_images_than_a_batch(count):
    order = GroupedSampler(np.arange(count), 8, seed=0)
    assert order.steps_per_epoch == 1
    assert set(order.row(5).tolist()) == set(range(count)) and order.row(5).shape == (8,)


def test_number_of_copies():
    copies = np.array([0, 0.25, 1, 1.5, 2.25, 1, 0.5, 3.5])
    order = GroupedSampler(np.array([0, 1, 0, 1, 0, 1, 0, 1]), 5, seed=0, copies=copies)
    passes = np.stack([np.bincount(a_pass(order, number).ravel(), minlength=8) for number in range(800)])
    assert (passes.sum(1) == 10).all() and order.steps_per_epoch == 2
    assert (passes >= np.floor(copies)).all() and (passes <= np.ceil(copies)).all()
    np.testing.assert_allclose(passes.mean(0), copies, atol=0.06)


def test_every_pass_has_the_rounded_sum_of_copies():
    copies = np.random.default_rng(0).uniform(0.3, 2.9, 97)
    order = GroupedSampler(np.zeros(97, int), 1, seed=0, copies=copies)
    passes = np.stack([np.bincount(a_pass(order, number).ravel(), minlength=97) for number in range(50)])
    assert (passes.sum(1) == round(copies.sum())).all()
    assert np.abs(passes.mean(0) - copies).max() < 0.3


def test_rare_images_have_whole_passes():
    order = GroupedSampler(np.zeros(24, int), 2, seed=0, copies=np.full(24, 0.1))
    assert order.steps_per_epoch == 1 and all(a_pass(order, number).shape == (1, 2) for number in range(50))


def test_copies_of_an_image_are_not_neighbors():
    order = GroupedSampler(np.zeros(40, int), 2, seed=0, copies=np.full(40, 2.0))
    assert sum(first == second for first, second in a_pass(order)) < 20  # about one of 40


def test_the_last_batch_is_filled_by_its_own_group():
    groups = np.repeat([0, 1], [8, 2])
    assert all(np.ptp(groups[batch]) == 0 for batch in a_pass(GroupedSampler(groups, 4, seed=0)))
