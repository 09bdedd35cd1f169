"""Tests that items are processed in threads ahead of their use, in order and in limited number."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from resdet.images.prefetch import prefetched


def test_results_come_in_order_from_other_threads():
    threads = set()

    def square(number: int) -> int:
        threads.add(threading.current_thread())
        return number * number

    assert [*prefetched(square, range(50), 4)] == [(n, n * n) for n in range(50)]
    assert threading.main_thread() not in threads


def test_the_number_of_items_ahead_is_limited():
    started = []
    for number, _ in prefetched(started.append, range(20), 3):
        assert len(started) <= number + 4


def test_work_continues_while_a_result_is_used():
    """Checks that the next results are computed before they are requested."""
    done = [threading.Event() for _ in range(3)]
    results = prefetched(lambda n: done[n].set(), range(3), 2)
    next(results)
    assert done[1].wait(30) and done[2].wait(30)


def test_an_iterator_is_not_read_ahead():
    read = []
    results = prefetched(str, (read.append(n) or n for n in range(3)), 2)
    assert next(results) == (0, "0") and read == [0]
    assert [*results] == [(1, "1"), (2, "2")]


def test_an_error_is_raised_in_order():
    results = prefetched(lambda n: 1 // (n - 2), range(9), 4)
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


class Camera:
    """An iterable that yields one array with changing content and can be iterated again."""

    def __iter__(self):
        frame = np.zeros(1, int)
        for number in range(6):
            frame[:] = number
            yield frame


def test_an_iterable_that_reuses_its_item_is_not_read_ahead():
    assert [seen for _, seen in prefetched(lambda frame: int(frame[0]), Camera(), 3)] == [0, 1, 2, 3, 4, 5]


def test_an_error_of_an_item_follows_the_earlier_results():
    class Items(Sequence):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 2:
                raise ValueError("unreadable")
            return index

    results = prefetched(str, Items(), 4)
    assert [next(results), next(results)] == [(0, "0"), (1, "1")]
    with pytest.raises(ValueError, match="unreadable"):
        next(results)


def test_a_closed_generator_starts_no_more_work():
    running, proceed, started = threading.Event(), threading.Event(), []

    def work(number):
        started.append(number)
        if number:
            running.set()
            proceed.wait(30)

    results = prefetched(work, range(100), 40)
    next(results)
    assert running.wait(30)
    results.close()
    proceed.set()
    assert len(started) < 41  # only the calls that threads had started


def test_no_items():
    assert [*prefetched(str, [], 2)] == []
