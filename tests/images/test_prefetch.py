"""Images are prepared in threads ahead of their use, in order, and not many of them."""

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


def test_no_more_than_the_given_number_is_ahead():
    started = []
    for number, _ in prefetched(started.append, range(20), 3):
        assert len(started) <= number + 4


def test_work_goes_on_while_a_result_is_used():
    """The next ones are computed before anybody asks for them."""
    done = [threading.Event() for _ in range(3)]
    results = prefetched(lambda n: done[n].set(), range(3), 2)
    next(results)
    assert done[1].wait(30) and done[2].wait(30)


def test_an_iterator_is_read_when_asked():
    read = []
    results = prefetched(str, (read.append(n) or n for n in range(3)), 2)
    assert next(results) == (0, "0") and read == [0]
    assert [*results] == [(1, "1"), (2, "2")]


def test_an_error_comes_in_its_place():
    results = prefetched(lambda n: 1 // (n - 2), range(9), 4)
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


class Camera:
    """Refills one array, and can be read again."""

    def __iter__(self):
        frame = np.zeros(1, int)
        for number in range(6):
            frame[:] = number
            yield frame


def test_an_iterable_that_reuses_its_item_is_not_read_ahead():
    assert [seen for _, seen in prefetched(lambda frame: int(frame[0]), Camera(), 3)] == [0, 1, 2, 3, 4, 5]


def test_an_error_of_the_items_comes_after_the_results_before_it():
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


def test_an_abandoned_generator_computes_nothing_more():
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
    assert len(started) < 41  # at most those that threads had begun


def test_nothing_gives_nothing():
    assert [*prefetched(str, [], 2)] == []
