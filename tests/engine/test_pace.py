"""The remaining time of a run with a clock of the test: steps of two seconds, evaluations of a minute."""

import pytest

from resdet.engine.pace import Pace, Steps
from resdet.progress import Display


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def take(pace, clock, count, seconds=2.0):
    for _ in range(count):
        clock.now += seconds
        pace.count_step()


def test_the_first_step_does_not_count(clock):
    pace = Pace(100, 100, clock)
    take(pace, clock, 1, 300.0)
    assert pace.seconds_left(1) is None and pace.left(1) == "first step"
    take(pace, clock, 4)
    assert pace.seconds_left(5) == 190


def test_a_step_that_compiles_another_shape_hardly_counts(clock):
    pace = Pace(1000, 1000, clock)
    for window in range(5):
        take(pace, clock, 10, 60.0 if window == 1 else 2.0)
        pace.close_window()
    assert pace.seconds_left(50) == 1900


def test_a_window_of_the_first_step_alone(clock):
    pace = Pace(100, 100, clock)
    take(pace, clock, 1, 300.0)
    pace.close_window()
    take(pace, clock, 1)
    pace.close_window()
    assert pace.seconds_left(2) == 196


def test_pauses_and_evaluations_are_not_time_of_steps(clock):
    pace = Pace(40, 10, clock)
    take(pace, clock, 5)
    with pace.pause():
        clock.now += 1000
    take(pace, clock, 5)
    pace.close_window()
    with pace.evaluation():
        clock.now += 60
    take(pace, clock, 10)
    pace.close_window()
    assert pace.seconds_left(20) == 20 * 2 + 3 * 60  # the evaluations of steps 20, 30 and 40
    take(pace, clock, 1)
    assert pace.seconds_left(21) == 19 * 2 + 2 * 60


def test_evaluations_without_a_measured_time_are_told(clock):
    pace = Pace(25, 10, clock)
    take(pace, clock, 5)
    pace.close_window()
    assert pace.left(5) == "0:00:40 and 3 evaluations left"
    assert pace.left(11) == "0:00:28 and 2 evaluations left"
    assert pace.left(25) == "0:00:00 and 1 evaluation left"


def test_the_line_of_a_run_has_time_and_metrics(clock):
    pace = Pace(100, 200, clock)
    steps = Steps(pace, 0, Display(clock))
    assert steps.text() == "step 0/100, first step"
    take(pace, clock, 11)
    steps.done, steps.metrics = 11, "loss 0.5"
    pace.evaluations.append(2.0)
    assert steps.text() == "step 11/100, 0:03:00 left  loss 0.5"
