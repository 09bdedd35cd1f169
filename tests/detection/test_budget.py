"""The cost of a training step, counted without a clock, compared with the recorded one."""

import json

import pytest
from detection import budget
from detection.no_sync import needs_fake_gpu

pytestmark = needs_fake_gpu
RECORDED = json.loads(budget.FILE.read_text())


@pytest.mark.parametrize("config", budget.CONFIGS)
def test_a_training_step_stays_within_its_budget(config):
    """After an intended change, run `python tests/detection/budget.py` to record the new cost."""
    assert budget.measure(config) == pytest.approx(RECORDED[config], rel=0.05)
