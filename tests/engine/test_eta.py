"""Checks the estimate of the remaining time with a mock clock: steps take two seconds, evaluations a minute."""

from itertools import repeat

import pytest

from resdet.engine.eta import Remaining, Steps
from resdet.engine.pace import Pace
from resdet.engine.throughput import Throughput
from resdet.progress import Display


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def build(total, evaluate_every, clock, minutes=None):
    return Remaining(Pace(total, evaluate_every, minutes, clock), Throughput(8, clock))


def take(remaining, clock, count, seconds=2.0):
    for _ in range(count):
        remaining.throughput.next(repeat(None))
        clock.now += seconds
        remaining.pace.advance()


def test_the_first_steps_are_not_timed(clock):
    remaining = build(100, 100, clock)
    take(remaining, clock, 2, 300.0)
    assert remaining.seconds() is None and str(remaining) == "first steps"
    take(remaining, clock, 4)
    assert remaining.seconds() == 188


def test_the_step_in_progress_does_not_count(clock):
    remaining = build(100, 100, clock)
    take(remaining, clock, 3)
    remaining.throughput.next(repeat(None))
    clock.now += 0.1
    assert remaining.seconds() == 97 * 2
    remaining = build(100, 100, clock)
    take(remaining, clock, 2)
    remaining.throughput.next(repeat(None))
    assert remaining.seconds() is None


def test_a_slow_window_does_not_change_the_estimate(clock):
    remaining = build(1000, 1000, clock)
    for window in range(5):
        take(remaining, clock, 10, 60.0 if window in (1, 4) else 2.0)
        remaining.throughput.read()
    assert remaining.seconds() == 1900


def test_windows_of_the_first_steps_are_ignored(clock):
    remaining = build(100, 100, clock)
    for _ in range(2):
        take(remaining, clock, 1, 300.0)
        assert remaining.throughput.read()["images/s"] == pytest.approx(8 / 300)
    take(remaining, clock, 1)
    remaining.throughput.read()
    assert remaining.seconds() == 194


def test_pauses_and_evaluations_do_not_count_as_step_time(clock):
    remaining = build(40, 10, clock)
    throughput = remaining.throughput
    take(remaining, clock, 5)
    with throughput.pause():
        clock.now += 1000
    assert remaining.seconds() == 35 * 2
    take(remaining, clock, 5)
    throughput.read()
    with throughput.pause():
        clock.now += 60
    remaining.pace.conclude_evaluation(60.0)
    assert remaining.seconds() == 30 * 2 + 3 * 60  # the evaluations of steps 20, 30 and 40
    take(remaining, clock, 9)
    throughput.read()
    assert remaining.seconds() == 21 * 2 + 3 * 60
    take(remaining, clock, 1)
    assert remaining.seconds() == 20 * 2 + 3 * 60  # the evaluation of step 20 starts now
    remaining.pace.conclude_evaluation(50.0)
    assert remaining.seconds() == 20 * 2 + 2 * 50


def test_the_rates_of_a_window(clock):
    throughput = Throughput(8, clock)

    def batches():
        while True:
            clock.now += 0.5
            yield None

    data = batches()
    for _ in range(4):
        throughput.next(data)
        clock.now += 1.5
    assert throughput.read() == {"images/s": 4.0, "data": 0.25}
    assert throughput.seconds_per_step() == 0.0


def test_evaluations_not_yet_timed_are_counted_in_the_text(clock):
    remaining = build(25, 10, clock)
    take(remaining, clock, 5)
    assert str(remaining) == "0:00:40 and 3 evaluations left"
    take(remaining, clock, 5)
    assert str(remaining) == "0:00:30 and 3 evaluations left"  # one of them starts now
    take(remaining, clock, 1)
    assert str(remaining) == "0:00:28 and 2 evaluations left"
    take(remaining, clock, 13)
    assert str(remaining) == "0:00:02 and 1 evaluation left"


def test_no_step_is_left_after_the_last_one(clock):
    remaining = build(2, 2, clock)
    take(remaining, clock, 2)
    assert remaining.seconds() == 0 and str(remaining) == "0:00:00 and 1 evaluation left"
    remaining.pace.conclude_evaluation(60.0)
    assert remaining.seconds() == 0 and str(remaining) == "0:00:00 left"


def test_a_run_with_a_time_budget_has_fewer_steps_left(clock):
    remaining = build(100, 200, clock)
    take(remaining, clock, 10)
    remaining.pace.speed = 9.0
    assert remaining.seconds() == 20


def test_a_run_with_a_time_budget_is_estimated_once_its_speed_fits(clock):
    remaining = build(100_000, 100_000, clock, minutes=1)
    steps = Steps(remaining, 0, 100_000, Display(clock))
    take(remaining, clock, 4)
    assert remaining.seconds() is None and steps.text() == "step 0, first steps"
    remaining.pace.adopt(*remaining.pace.fitted(2.0))
    steps.done, steps.total = 4, 4 + remaining.pace.remaining
    assert steps.text() == "step 4/30, 0:00:52 and 1 evaluation left"
    resumed = build(100_000, 100_000, clock, minutes=1)
    resumed.pace.load_state_dict(remaining.pace.state_dict())
    take(resumed, clock, 4)
    assert resumed.seconds() is not None


def test_the_progress_line_has_time_and_metrics(clock):
    remaining = build(100, 200, clock)
    steps = Steps(remaining, 0, 100, Display(clock))
    assert steps.text() == "step 0/100, first steps"
    take(remaining, clock, 11)
    steps.done, steps.metrics = 11, "loss 0.5"
    remaining.pace.evaluation = 2.0
    assert steps.text() == "step 11/100, 0:03:00 left  loss 0.5"
