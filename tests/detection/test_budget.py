"""A training step costs what it cost before: a regression shows without a clock."""

import json

import pytest
from detection import budget
from detection.no_sync import needs_fake_gpu

pytestmark = needs_fake_gpu
RECORDED = json.loads(budget.FILE.read_text())


@pytest.mark.parametrize("config", budget.CONFIGS)
def test_a_training_step_stays_within_its_budget(config):
    """If a change is wanted, `python tests/detection/budget.py` records it."""
    assert budget.measure(config) == pytest.approx(RECORDED[config], rel=0.05)
