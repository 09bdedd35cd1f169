"""Compares learning rates with the paper's values and closed forms."""

import math

import pytest

from resdet.engine.config import OptimConfig, ScheduleConfig
from resdet.engine.optim import build_optimizer, scaled_lr
from resdet.engine.schedule import Schedule


def test_the_cifar_recipe():
    """Checks the rate of section 4.2: 0.1, divided by 10 at 32k and 48k iterations, terminated at 64k."""
    schedule = Schedule(ScheduleConfig(milestones=[32000, 48000]), 0.1, 64000, 1)
    rates = [schedule.lr(step) for step in (0, 31999, 32000, 47999, 48000, 63999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_milestones_are_in_the_unit_of_the_run():
    schedule = Schedule(ScheduleConfig(milestones=[30, 60, 80]), 0.1, 90 * 5005, 5004.48)
    assert schedule.lr(round(30 * 5004.48) - 1) == pytest.approx(0.1)
    assert schedule.lr(round(30 * 5004.48)) == pytest.approx(0.01)


def test_linear_warmup_is_in_the_unit_of_the_run():
    schedule = Schedule(ScheduleConfig(warmup=2), 0.1, 1000, 50)
    assert [schedule.lr(step) for step in (0, 49, 99, 100)] == pytest.approx([0.001, 0.05, 0.1, 0.1])


def test_warm_up_lasts_until_the_error_falls():
    """Section 4.2: "0.01 to warm up the training until the training error is below 80%, and then go back to 0.1"."""
    schedule = Schedule(ScheduleConfig(warmup_until_error=0.8, warmup_lr=0.01), 0.1, 64000, 1)
    assert schedule.lr(0) == schedule.lr(399) == 0.01
    schedule.observe_training_error(0.8)
    assert schedule.lr(400) == 0.01
    schedule.observe_training_error(0.79)
    assert schedule.lr(401) == 0.1
    schedule.observe_training_error(0.95)
    assert schedule.lr(402) == 0.1


def test_plateau_divides_after_patience():
    schedule = Schedule(ScheduleConfig(name="plateau", patience=2), 0.1, 100, 1)
    seen = []
    for improved in (True, True, False, False, True, False, False, False, False):
        schedule.observe_evaluation(improved)
        seen.append(schedule.lr(0))
    assert seen == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.0001])


def test_cosine_and_linear_warmup():
    schedule = Schedule(ScheduleConfig(name="cosine", warmup=10, final=0.01), 1.0, 110, 1)
    assert [schedule.lr(step) for step in (0, 4)] == pytest.approx([0.1, 0.5])
    assert schedule.lr(60) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 2)) / 2)
    assert schedule.lr(110) == pytest.approx(0.01)


@pytest.mark.parametrize("warmup", [100, 200])
def test_a_warmup_may_last_the_whole_run(warmup):
    schedule = Schedule(ScheduleConfig(name="cosine", warmup=warmup), 1.0, 100, 1)
    assert [schedule.lr(step) for step in (0, 49, 99)] == pytest.approx([1 / warmup, 50 / warmup, 100 / warmup])


def test_loaded_state_continues_the_schedule():
    """Interrupts a plateau after one and a half waits."""
    first = Schedule(ScheduleConfig(name="plateau", patience=2, warmup_until_error=0.8), 0.1, 100, 1)
    first.observe_training_error(0.5)
    for improved in (True, False, False, False):
        first.observe_evaluation(improved)
    second = Schedule(first.config, 0.1, 100, 1)
    second.load_state_dict(first.state_dict())
    assert second.lr(7) == first.lr(7) == pytest.approx(0.01)
    second.observe_evaluation(False)
    assert second.lr(7) == pytest.approx(0.001)


def test_linear_scaling():
    assert scaled_lr(OptimConfig(lr=0.1, base_batch=256), 1024) == pytest.approx(0.4)
    assert scaled_lr(OptimConfig(lr=0.1), 1024) == 0.1


def test_weight_decay_can_exclude_norms_and_biases():
    from torch import nn

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(net, OptimConfig(decay_norm_and_bias=False, weight_decay=0.1), 0.1)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decays[id(p)] for p in net.parameters()] == [0.1, 0.0, 0.0, 0.0]
    everything = build_optimizer(net, OptimConfig(weight_decay=0.1), 0.1)
    assert [group["weight_decay"] for group in everything.param_groups] == [0.1]


def test_state_of_a_warm_up_loads_into_a_schedule_without_one():
    held = Schedule(ScheduleConfig(warmup_until_error=0.8, warmup_lr=0.01), 0.1, 100, 1).state_dict()
    schedule = Schedule(ScheduleConfig(), 0.1, 100, 1)
    schedule.load_state_dict(held)
    schedule.observe_training_error(0.9)
    assert schedule.lr(50) == 0.1
