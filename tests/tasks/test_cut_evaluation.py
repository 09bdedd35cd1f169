"""Tests that a run which fails in an evaluation repeats it on resume and ends like an uninterrupted run."""

import pytest
from engine.cutting import assert_same_run, trainer_state
from running import TINY
from tasks import runs
from tasks.test_localization import RPN

from resdet.classification.training import ClassificationTraining
from resdet.detection.four_step_training import AlternatingTraining
from resdet.detection.training import DetectionTraining
from resdet.errors import DataError
from resdet.localization.data import shape_loc
from resdet.localization.rpn_training import LocalizationTraining

pytestmark = pytest.mark.usefixtures("narrow")

CLASSIFIER = [
    *TINY,
    "train.deterministic=true",
    "train.length=9",
    "train.evaluate_every=3",
    "train.checkpoint_every=4",
    "train.ema=0.9",
    "train.exact_statistics=32",
    "schedule.name=plateau",
    "schedule.patience=1",
]
LOCALIZER = [*RPN, "train.length=4", "train.checkpoint_every=3", "train.deterministic=true"]
DETECTOR = ["train.length=4", "train.evaluate_every=2", "train.checkpoint_every=3", "train.deterministic=true"]
ALTERNATING = [
    "alternating={rpn: {batch: 4, length: 2, milestones: [1]}, regions: {batch: 2, length: 2, milestones: [1]}}",
    "schedule.name=step",
    "train.evaluate_every=1",
    "train.deterministic=true",
    "optim.lr=1e-3",
]


@pytest.fixture(scope="module")
def whole(root, module_folder, request):
    """Returns the settings of a run and the folder of the uninterrupted run."""
    folder = module_folder("whole")
    if request.param == "localization":
        shape_loc.ensure(folder / "localized", 16, 6, 64, 0)
    words = {
        "classification": CLASSIFIER,
        "detection": [*runs.of(root), *DETECTOR, "train.ema=0.9", "train.exact_statistics=4"],
        "localization": [*LOCALIZER, f"data.root={folder / 'localized'}"],
    }[request.param]
    runs.train(folder / "run", *words)
    return words, folder / "run"


def fail_once(monkeypatch, kind, place, number):
    """Makes the method `place` of the task raise at its `number`th call."""
    calls, method = [0], getattr(kind, place)

    def failing(self, *given):
        calls[0] += 1
        if calls[0] == number:
            raise DataError("val/7.jpg is cut short: delete it")
        return method(self, *given)

    monkeypatch.setattr(kind, place, failing)


CASES = [
    ("classification", ClassificationTraining, "evaluate"),
    ("detection", DetectionTraining, "evaluate"),
    ("detection", DetectionTraining, "keep"),
    ("localization", LocalizationTraining, "evaluate"),
    ("localization", LocalizationTraining, "keep"),
]


@pytest.mark.parametrize("whole, kind, place", CASES, indirect=["whole"])
def test_a_resumed_run_equals_an_uninterrupted_run(tmp_path, whole, kind, place, monkeypatch):
    words, run = whole
    with monkeypatch.context() as patch:
        fail_once(patch, kind, place, 2 if place == "evaluate" else 1)
        line = runs.sentence(runs.here("train", *words, "--out", tmp_path / "cut"))
    assert f"delete it; {tmp_path}/cut/last.pth of step " in line and "continue with --resume" in line
    assert trainer_state(tmp_path / "cut")["evaluation_due"]
    runs.train(tmp_path / "cut", *words, "--resume")
    assert_same_run(run, tmp_path / "cut")


def test_alternating_resumes_in_the_evaluation_of_the_second_step(root, tmp_path, monkeypatch):
    words = [*runs.of(root), *ALTERNATING]
    runs.train(tmp_path / "whole", *words)
    with monkeypatch.context() as patch:
        fail_once(patch, AlternatingTraining, "evaluate", 4)  # the last evaluation of step 2
        assert "2_regions/last.pth of step 2" in runs.sentence(runs.here("train", *words, "--out", tmp_path / "cut"))
    runs.train(tmp_path / "cut", *words, "--resume")
    for step in ("1_rpn", "2_regions", "3_rpn", "4_regions"):
        assert_same_run(tmp_path / "whole" / step, tmp_path / "cut" / step)
