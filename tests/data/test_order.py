"""The endless order of training images."""

import numpy as np
import pytest

from resdet.data.order import Order


def test_each_pass_is_a_permutation():
    order = Order(10, seed=3)
    passes = order.take(0, 30).reshape(3, 10)
    assert all(sorted(one) == list(range(10)) for one in passes.tolist())
    assert len({tuple(one) for one in passes.tolist()}) == 3


def test_it_depends_on_seed_and_position_alone():
    whole = Order(7, seed=1).take(0, 50)
    cut = np.concatenate([Order(7, seed=1).take(start, start + 5) for start in range(0, 50, 5)])
    np.testing.assert_array_equal(whole, cut)
    assert (Order(7, seed=2).take(0, 50) != whole).any()


def test_processes_share_without_duplicates():
    order = Order(16, seed=0)
    shares = [order.take(4 * rank, 4 * rank + 4) for rank in range(4)]
    np.testing.assert_array_equal(np.concatenate(shares), order.take(0, 16))
    assert len(set(np.concatenate(shares).tolist())) == 16


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeated_augmentation(repeats):
    taken = Order(5, seed=0, repeats=repeats).take(0, 5 * repeats)
    np.testing.assert_array_equal(
        taken.reshape(5, repeats), np.repeat(Order(5, seed=0).take(0, 5)[:, None], repeats, 1)
    )
    assert Order(5, 0, repeats).steps_per_pass(5) == repeats
