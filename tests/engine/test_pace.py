"""Checks the position of a run in its schedule with a mock clock."""

import pytest
from engine.linear import CPU, Linear

from resdet.engine.config import OptimConfig, ScheduleConfig, TrainConfig
from resdet.engine.distributed import World
from resdet.engine.eta import Remaining
from resdet.engine.log import Log
from resdet.engine.pace import Pace
from resdet.engine.saved_state import is_pace
from resdet.engine.trainer import Trainer


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run(pace, clock, seconds, evaluation=0.0, log_every=50, steps=100_000):
    """Takes steps of `seconds(step)` to the end; returns the number of steps and the positions of the evaluations."""
    step, evaluations, timed, begun = 0, [], 0, clock.now
    while not pace.done and step < steps:
        clock.now += seconds(step)
        step, timed = step + 1, timed + 1
        pace.advance()
        if step == 2:
            timed, begun = 0, clock.now
        if pace.fits_after(step, log_every):
            pace.adopt(*pace.fitted((clock.now - begun) / timed))
            timed, begun = 0, clock.now
        if pace.done or pace.crossed(pace.evaluate_every):
            evaluations.append(pace.position)
            clock.now += evaluation
            begun += evaluation
            pace.evaluation = evaluation
    return step, evaluations


def test_position_counts_steps_without_a_budget():
    pace = Pace(10, 4)
    seen = []
    for _ in range(10):
        assert not pace.done and pace.remaining == 10 - len(seen)
        pace.advance()
        seen.append((pace.position, pace.crossed(4)))
    assert pace.done and seen == [(float(k), k % 4 == 0) for k in range(1, 11)]


@pytest.mark.parametrize("total, interval, steps", [(9, 13 / 3, [5, 9]), (8, 4.2, [5, 8]), (6, 1.5, [2, 3, 5, 6])])
def test_epochs_with_a_fractional_number_of_steps(total, interval, steps):
    """Checks evaluations after the step that completes each epoch and at the end, and how many are expected."""
    pace = Pace(total, interval)
    assert pace.evaluations_left == len(steps)
    seen = []
    while not pace.done:
        pace.advance()
        if pace.crossed(interval) or pace.done:
            seen.append(pace.position)
            assert pace.evaluations_after(interval) + pace.crossed(interval) == len(steps) - len(seen) + 1
    assert seen == steps


def test_the_speed_is_fitted_early_and_at_logged_steps():
    limited, free = Pace(1000, 1000, minutes=1), Pace(1000, 1000)
    assert [step for step in range(1, 61) if limited.fits_after(step, 15)] == [5, 10, 20, 30, 45, 60]
    assert not any(free.fits_after(step, 15) for step in range(1, 61))


@pytest.mark.parametrize("total", [100, 4000, 90_000])
@pytest.mark.parametrize("seconds", [0.05, 0.5, 3.0])
def test_time_budget_is_kept_at_any_length_and_speed(total, seconds):
    clock = Clock()
    pace = Pace(total, total // 8, minutes=10, clock=clock)
    steps, evaluations = run(pace, clock, lambda step: seconds, evaluation=6.0)
    spent = clock.now - 100
    assert 600 - 2 * seconds - 6 <= spent <= 600 + 50 * seconds / 5 + 6
    assert pace.position == pytest.approx(total, abs=pace.speed)
    assert 8 <= len(evaluations) <= 9
    for number, position in enumerate(evaluations[:8], 1):  # at the same fractions of the schedule
        assert position == pytest.approx(number * (total // 8), abs=1.01 * max(1, total / steps * 1.5))


@pytest.mark.parametrize("total, interval, evaluation", [(2000, 250, 120.0), (90_000, 2500, 60.0), (64_000, 400, 5.0)])
def test_long_evaluations_leave_time_for_training(total, interval, evaluation):
    """Checks evaluations that would take more than the whole time at their interval."""
    clock = Clock()
    pace = Pace(total, interval, minutes=10, clock=clock)
    steps, evaluations = run(pace, clock, lambda step: 0.5, evaluation=evaluation)
    assert clock.now - 100 == pytest.approx(600, abs=2)
    assert 200 < steps * 0.5 < 500 and len(evaluations) > 2
    assert evaluations[-1] == pytest.approx(total, abs=1)
    assert all(position % interval < 2 * total / steps for position in evaluations[:-1])  # just after a multiple of it


def test_a_slow_first_step_does_not_skip_the_schedule():
    clock = Clock()
    pace = Pace(1000, 1000, minutes=10, clock=clock)
    run(pace, clock, lambda step: 90.0 if step == 0 else 0.5, steps=6)
    assert pace.position < 12


def test_time_budget_is_kept_when_steps_become_slower():
    clock = Clock()
    pace = Pace(1000, 1000, minutes=10, clock=clock)
    run(pace, clock, lambda step: 0.25 if clock.now < 400 else 1.0, log_every=10)
    assert 590 <= clock.now - 100 <= 620 and pace.done


def test_a_spent_budget_ends_the_run_at_the_next_step():
    clock = Clock()
    pace = Pace(1000, 1000, minutes=1, clock=clock)
    steps, _ = run(pace, clock, lambda step: 30.0)
    assert steps == 6 and pace.done


def test_time_before_a_resume_counts():
    clock = Clock()
    first = Pace(1000, 1000, minutes=10, clock=clock)
    run(first, clock, lambda step: 1.0, steps=300)
    state = first.state_dict()
    later = Clock()
    later.now = 5e6
    second = Pace(1000, 1000, minutes=10, clock=later)
    second.load_state_dict(state)
    assert (second.position, second.speed) == (first.position, first.speed)
    run(second, later, lambda step: 1.0, log_every=10)
    assert later.now - 5e6 == pytest.approx(300, abs=12)
    assert set(Pace(1000, 1000).state_dict()) == {"position"}  # no timings: equal runs have equal checkpoints
    other = Pace(1000, 1000)  # resumed without a budget
    other.load_state_dict(state)
    assert other.speed == 1 and other.remaining == round(1000 - first.position)
    limited = Pace(1000, 1000, minutes=10, clock=later)  # resumed with a budget, after a run without one
    limited.load_state_dict(other.state_dict())
    assert (limited.position, limited.speed) == (first.position, 1)
    assert limited.fitted(1.0)[0] == pytest.approx((1000 - first.position) / 600)


def test_a_resumed_run_keeps_the_interval_of_its_evaluations():
    """Long evaluations stretch the interval, which follows the config of the resumed run, with or without a budget."""
    clock = Clock()
    first = Pace(2000, 250, minutes=10, clock=clock)
    run(first, clock, lambda step: 0.5, evaluation=120.0, steps=200)
    assert first.evaluate_every > 250
    second, finer, free = Pace(2000, 250, minutes=10), Pace(4000, 500, minutes=10), Pace(2000, 250)
    for pace in (second, finer, free):
        pace.load_state_dict(first.state_dict())
    assert second.evaluate_every == first.evaluate_every and second.evaluation == 120
    assert (finer.evaluate_every, free.evaluate_every) == (2 * first.evaluate_every, 250)
    older = {key: value for key, value in first.state_dict().items() if key != "stretch"}
    second.load_state_dict(older)
    assert second.evaluate_every == 250 and is_pace(first.state_dict()) and is_pace(older)
    assert not is_pace(older | {"stretch": 0})


def limited(out, clock, seconds=lambda step: 0.2, evaluation=10.0, total=1000, **settings):
    """A trainer of one minute with a mock clock, whose steps take `seconds(step)`."""
    task = Linear()
    config = TrainConfig(unit="steps", length=total, batch=4, minutes=1, precision="fp32", **settings)
    trainer = Trainer(task, OptimConfig(lr=0.1), ScheduleConfig("cosine"), config, World(0, 1, CPU), out)
    trainer.pace.clock, trainer.pace.started = clock, clock()
    trainer.throughput.clock = clock
    update, evaluate = trainer.train_step.update, task.evaluate

    def slow_update(inputs):
        clock.now += seconds(trainer.step)
        return update(inputs)

    def slow_evaluate(model):
        clock.now += evaluation
        return evaluate(model)

    trainer.train_step.update, task.evaluate = slow_update, slow_evaluate
    out.mkdir(exist_ok=True)
    return trainer


def stop_after(trainer, step):
    """Adds a callback that stops the trainer after a step."""
    advance = trainer.pace.advance

    def counted():
        advance()
        trainer.signals.received = 15 if trainer.step == step else None

    trainer.pace.advance = counted


@pytest.mark.parametrize("step", [28, 29])
def test_a_slow_first_step_after_a_resume_does_not_skip_the_schedule(tmp_path, step):
    """Resumes one or two steps before the speed is fitted; the first step takes 20 of the 54 seconds that are left."""
    clock = Clock()
    settings = {"evaluate_every": 1000, "checkpoint_every": 1000, "log_every": 10}
    first = limited(tmp_path / "run", clock, **settings)
    stop_after(first, step)
    first.run(Log(None))
    assert first.step == step
    second = limited(tmp_path / "run", clock, lambda at: 20.0 if at == step else 0.2, **settings)
    second.resume()
    speed = second.pace.speed
    stop_after(second, 31)
    second.run(Log(None))
    assert (second.step, second.pace.speed) == (31, speed)


def test_checkpoints_have_the_time_of_the_last_evaluation(tmp_path):
    """Reads the checkpoints around an evaluation, and resumes at one that is due."""
    clock, settings, states = Clock(), {"evaluate_every": 10, "checkpoint_every": 1000}, []
    first = limited(tmp_path / "run", clock, **settings)
    state = first.state
    first.state = lambda: states.append(state()) or states[-1]
    stop_after(first, 12)
    first.run(Log(None))
    assert [(kept["evaluation_due"], kept["pace"]["evaluation"]) for kept in states] == [
        (True, 0.0),
        (False, 10.0),
        (False, 10.0),
    ]
    second = limited(tmp_path / "run", clock, **settings)
    second.resume()
    second.pace.evaluation, second.evaluation_due = 0.0, True
    stop_after(second, 13)
    second.run(Log(None))
    assert second.pace.evaluation == 10.0


@pytest.mark.parametrize("log_every", [25, 1000])
def test_the_speed_fits_right_after_the_first_evaluation(tmp_path, log_every):
    """The first of four evaluations, of 5 s after 15 s, leaves 40 of 60 s: 25 for 750 steps of the schedule."""
    clock, seen = Clock(), []
    settings = {"evaluate_every": 250, "checkpoint_every": 1000, "log_every": log_every}
    trainer = limited(tmp_path / "run", clock, evaluation=5.0, **settings)
    state = trainer.state

    def note():
        if not trainer.evaluation_due:
            pace, left = trainer.pace, trainer.pace.started + 60 - clock()
            seen.append((state()["pace"]["speed"], Remaining(pace, trainer.throughput).seconds(), left))
        return state()

    trainer.state = note
    stop_after(trainer, 80)
    trainer.run(Log(None))
    speed, seconds, left = seen[0]
    assert left == pytest.approx(40, abs=1) and seconds == pytest.approx(left, abs=0.2)
    assert speed == pytest.approx(750 / (25 / 0.2), rel=0.05)


def test_an_evaluation_after_a_slow_first_step_does_not_skip_the_schedule(tmp_path):
    """Evaluates after step 4, before the speed is fitted; step 3, the first that is timed, takes 20 s."""
    settings = {"evaluate_every": 4, "checkpoint_every": 1000}
    trainer = limited(tmp_path / "run", Clock(), lambda at: 20.0 if at == 2 else 0.2, evaluation=0.1, **settings)
    speeds, state = [], trainer.state
    trainer.state = lambda: speeds.append((trainer.step, trainer.pace.speed)) or state()
    stop_after(trainer, 5)
    trainer.run(Log(None))
    assert speeds[:2] == [(4, 1), (4, 1)]  # before and after the evaluation


def test_trainer_scales_the_schedule_to_the_time_budget(tmp_path):
    """Fits a schedule of 50 or 3,000 steps into a minute of steps that take 0.2 s each, about 300 steps."""
    for total in (50, 3000):
        settings = {"evaluate_every": total / 4, "checkpoint_every": total, "log_every": 10}
        trainer = limited(tmp_path / str(total), Clock(), evaluation=0.0, total=total, **settings)
        rates, update = [], trainer.train_step.update

        def step(inputs):
            rates.append(trainer.train_step.lr)
            return update(inputs)

        trainer.train_step.update = step
        trainer.run(Log(None))
        assert trainer.step == pytest.approx(300, abs=13) and trainer.state()["total"] == trainer.step
        assert rates[0] == pytest.approx(0.1, rel=1e-3) and rates[-1] < 1e-4
        assert rates == sorted(rates, reverse=True)
        assert float(rates[150]) == pytest.approx(0.05, abs=0.01)
