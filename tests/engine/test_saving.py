"""Checks that the state is saved when data, evaluations or written results fail and when signals arrive."""

import signal

import pytest
import torch
from engine.cutting import assert_same_run, metrics, trainer_state
from engine.linear import Linear, run, trainer
from torch import nn

from resdet.engine.checkpoint import has_ended, read_last
from resdet.engine.config import ScheduleConfig
from resdet.errors import DataError, Error

PLATEAU = ScheduleConfig(name="plateau", patience=1)
SETTINGS = {
    "plain": {},
    "averaged": {"ema": 0.8},
    "exact statistics": {"exact_statistics": 8},
    "averaged, exact statistics": {"ema": 0.8, "exact_statistics": 8},
    "plateau": {"schedule": PLATEAU},
    "patience": {"patience": 2, "length": 30},
    "fp16": {"precision": "fp16"},
    "rare checkpoints": {"checkpoint_every": 100, "log_every": 2},
}


class Stop(Exception):
    """An exception that is not a resdet error, like one raised by a bug."""


class Normed(Linear):
    """Adds batch norm and an error that depends on the weights; calls `trouble` in `place` of evaluation `cut`."""

    def __init__(self, cut=None, place="evaluate", trouble=None, spoilt=None):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))
        self.step.model = self.model
        self.cut, self.place, self.trouble, self.evaluations = cut, place, trouble, 0
        if spoilt is not None:
            self.training.draw = lambda step, draw=self.training.draw: fail() if step == spoilt else draw(step)

    def act(self, place):
        if self.evaluations == self.cut and place == self.place:
            self.trouble()

    @torch.no_grad()
    def evaluate(self, model):
        self.evaluations += 1
        self.act("evaluate")
        batch = self.training.draw(0)
        loss = nn.functional.cross_entropy(model.eval()(batch.images), batch.targets)
        return {"error": loss.item() if self.evaluations != 3 else 9.0}

    def exact_statistics(self, model, images):
        self.act("exact_statistics")
        with torch.no_grad():
            model[0].running_mean.copy_(self.training.images.mean(0))

    def keep(self, folder):
        self.act("keep")
        (folder / "results.json").write_text(str(self.evaluations > 0))


def fail():
    raise DataError("val/7.jpg is cut short: delete it.")


def stop():
    signal.raise_signal(signal.SIGTERM)


def go_on(out, **settings):
    made = trainer(Normed(), out, **settings)
    made.resume()
    made.task.evaluations = made.step // 3 - made.evaluation_due  # the number of evaluations before the resume
    return made


@pytest.fixture
def whole(tmp_path, request):
    settings = SETTINGS[request.getfixturevalue("name")]
    run(trainer(Normed(), tmp_path / "whole", **settings), tmp_path / "whole")
    return tmp_path / "whole"


@pytest.mark.parametrize("name, cut", [*[(name, 2) for name in SETTINGS], ("plain", 1), ("plateau", 3)])
def test_a_failing_evaluation_is_repeated_on_resume(tmp_path, whole, name, cut):
    settings, out = SETTINGS[name], tmp_path / "cut"
    made = trainer(Normed(cut, trouble=fail), out, **settings)
    with pytest.raises(DataError, match=rf"cut short: delete it; {out}/last.pth of step {3 * cut} is saved, continue"):
        run(made, out)
    assert trainer_state(out)["step"] == 3 * cut and trainer_state(out)["evaluation_due"]
    assert not has_ended(read_last(out) | {"experiment": {"train": {"patience": settings.get("patience")}}})
    open_and_run(go_on(out, **settings), out)
    assert_same_run(whole, out)


def open_and_run(made, out):
    """Opens the log and runs, like `resdet train --resume`."""
    from resdet.engine.log import Log

    log = Log(out)
    log.open(made.step, made.evaluation_due)
    try:
        return made.run(log)
    finally:
        log.close()


@pytest.mark.parametrize("name", ["plain"])
@pytest.mark.parametrize("place", ["keep", "exact_statistics"])
def test_failing_results_and_statistics_are_repeated_on_resume(tmp_path, whole, name, place):
    out = tmp_path / "cut"
    settings = {"exact_statistics": 8} if place == "exact_statistics" else {}
    if settings:
        run(trainer(Normed(), tmp_path / "other", **settings), tmp_path / "other")
    made = trainer(Normed(0 if settings else 1, place, fail), out, **settings)
    with pytest.raises(DataError, match="of step 3 is saved"):
        run(made, out)
    open_and_run(go_on(out, **settings), out)
    assert_same_run(tmp_path / "other" if settings else whole, out)


def test_a_bug_in_an_evaluation_keeps_its_traceback(tmp_path, capsys):
    def trouble():
        raise Stop("a bug")

    with pytest.raises(Stop):
        run(trainer(Normed(1, trouble=trouble), tmp_path), tmp_path)
    assert f"failed at step 3; {tmp_path}/last.pth of step 3 is saved" in capsys.readouterr().err
    assert trainer_state(tmp_path)["evaluation_due"]


def test_an_error_with_custom_arguments_names_the_checkpoint(tmp_path):
    class Measured(Error):
        def __init__(self, value, limit):
            super().__init__(f"{value} exceeds {limit}: raise the limit.")
            self.value = value

    def trouble():
        raise Measured(3, 2)

    with pytest.raises(Measured, match=r"^3 exceeds 2: raise the limit; \S+/last.pth of step 3 is saved") as caught:
        run(trainer(Normed(1, trouble=trouble), tmp_path), tmp_path)
    assert caught.value.value == 3


@pytest.mark.parametrize("name", ["plain"])
def test_a_run_resumes_after_damaged_data(tmp_path, whole, name):
    out = tmp_path / "cut"
    with pytest.raises(DataError, match=r"delete it; \S+/last.pth of step 5 is saved, continue with --resume"):
        run(trainer(Normed(spoilt=5), out), out)
    state = trainer_state(out)
    assert state["step"] == 5 and not state["evaluation_due"]
    open_and_run(go_on(out), out)
    assert_same_run(whole, out)


def test_damaged_data_in_the_first_batch_leaves_no_checkpoint(tmp_path):
    with pytest.raises(DataError, match=r"delete it\.$"):
        run(trainer(Normed(spoilt=0), tmp_path), tmp_path)
    assert not (tmp_path / "last.pth").exists()


@pytest.mark.parametrize("name", ["plain", "averaged", "rare checkpoints"])
@pytest.mark.parametrize("place", ["evaluate", "keep"])
def test_a_signal_in_an_evaluation_stops_immediately(tmp_path, whole, name, place, capsys):
    out = tmp_path / "cut"
    made = trainer(Normed(2 if place == "evaluate" else 1, place, stop), out, **SETTINGS[name])
    run(made, out)
    step = 6 if place == "evaluate" else 3
    assert made.stopped and f"stopped at step {step}; {out}/last.pth of step {step}" in capsys.readouterr().err
    assert trainer_state(out)["evaluation_due"]
    open_and_run(go_on(out, **SETTINGS[name]), out)
    assert_same_run(whole, out)


def test_a_signal_before_the_first_step(tmp_path, capsys):
    """Sends SIGTERM while the first batch is prepared, which takes hours where R-CNN computes all proposals first."""
    made = trainer(Normed(), tmp_path)
    made.task.training.batches = lambda first_step: stop()
    run(made, tmp_path)
    assert made.stopped and "stopped at step 0; there is no checkpoint yet" in capsys.readouterr().err
    assert not (tmp_path / "last.pth").exists()


@pytest.mark.parametrize("name", ["plain"])
@pytest.mark.parametrize("step", [2, 3, 9])
def test_a_signal_in_a_step_stops_after_it(tmp_path, whole, name, step):
    """Sends a signal in a step; after steps 3 and 9 the run stops before the evaluation, which remains due."""
    out = tmp_path / "cut"
    made = trainer(Normed(), out)
    take_step = made.take_step
    made.take_step = lambda batch: (take_step(batch), made.step == step - 1 and stop())
    run(made, out)
    assert made.stopped and trainer_state(out)["step"] == step
    assert trainer_state(out)["evaluation_due"] == (step % 3 == 0)
    open_and_run(go_on(out), out)
    assert_same_run(whole, out)


def test_metrics_of_a_due_evaluation_are_written_once(tmp_path):
    """Repeats an evaluation that was logged before the run failed to save its results."""
    made = trainer(Normed(1, "keep", fail), tmp_path)
    with pytest.raises(DataError):
        run(made, tmp_path)
    assert [line["kind"] for line in metrics(tmp_path)] == ["train", "val"]
    open_and_run(go_on(tmp_path), tmp_path)
    assert [(line["step"], line["kind"]) for line in metrics(tmp_path)] == [
        (step, kind) for step in (3, 6, 9) for kind in ("train", "val")
    ]
