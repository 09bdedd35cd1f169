"""Images are prepared in threads ahead of their use, in order, and not many of them."""

import threading

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


def test_nothing_gives_nothing():
    assert [*prefetched(str, [], 2)] == []
