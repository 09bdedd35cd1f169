"""Checks when callbacks are called, and how a callback stops a run or fails."""

import json

import pytest
import torch
from engine.linear import Linear, run, trainer
from running import TINY

import resdet
from resdet.engine import Callback
from resdet.engine.callbacks import Callbacks
from resdet.errors import ConfigError, Error


class Recorder(Callback):
    """Records every call; `at` maps a hook and its first argument to an action."""

    def __init__(self, at=None):
        self.calls, self.at, self.run = [], at or {}, None

    def note(self, hook, value=None, *rest):
        self.calls.append((hook, value, *rest))
        if (hook, value) in self.at:
            self.at[hook, value](self)

    def on_train_start(self, run):
        self.run = run
        self.note("start", run.step)

    def on_step_end(self, step, values):
        self.note("step", step, dict(values))

    def on_evaluation_end(self, step, metrics):
        self.note("evaluation", step, dict(metrics))

    def on_checkpoint(self, path):
        assert path.exists()
        self.note("checkpoint", path.name)

    def on_train_end(self):
        self.note("end")

    def hooks(self):
        return [(hook, value) for hook, value, *_ in self.calls]


def stop(recorder):
    recorder.run.stop()


def fail(recorder):
    raise ValueError("no such column: 'loss'")


def last_step(out):
    return torch.load(out / "last.pth", weights_only=True)["trainer"]["step"]


def test_the_order_of_the_calls(tmp_path):
    recorder = Recorder()
    made = trainer(Linear(figures=[0.4, 0.6]), tmp_path, length=6)
    run(made, tmp_path, callbacks=[recorder])
    saved, best = ("checkpoint", "last.pth"), ("checkpoint", "best.pth")
    first = [("step", 1), ("step", 2), ("step", 3), saved, best, saved, ("evaluation", 3)]
    second = [("step", 4), ("step", 5), ("step", 6), saved, saved, ("evaluation", 6)]
    assert recorder.hooks() == [("start", 0), *first, *second, ("end", None)]
    given = recorder.run
    assert (given.folder, given.total, given.model) == (tmp_path, 6, made.task.model)
    assert given.experiment == {"name": "linear"}


def test_callbacks_get_the_logged_values(tmp_path):
    recorder = Recorder()
    run(trainer(Linear(figures=[0.4, 0.3, 0.2]), tmp_path), tmp_path, callbacks=[recorder])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = {(line["kind"], line["step"]): line["error"] for line in lines}
    of = lambda hook: {row[1]: row[2] for row in recorder.calls if row[0] == hook}
    given = {"train": of("step"), "val": of("evaluation")}
    assert [step for step, values in given["train"].items() if values] == [3, 6, 9]
    for (kind, step), error in logged.items():
        assert given[kind][step]["error"] == pytest.approx(error, rel=1e-5)


def test_a_callback_stops_the_run_and_the_run_resumes(tmp_path, capsys):
    made = trainer(Linear(), tmp_path)
    run(made, tmp_path, callbacks=[Recorder({("step", 4): stop})])
    assert made.stopped and made.step == 4 and last_step(tmp_path) == 4
    assert "stopped at step 4" in capsys.readouterr().err
    again, recorder = trainer(Linear(), tmp_path), Recorder()
    again.resume()
    run(again, tmp_path, callbacks=[recorder])
    assert recorder.hooks()[:2] == [("start", 4), ("step", 5)] and again.step == 9


@pytest.mark.parametrize("hook, value, step", [("evaluation", 3, 3), ("checkpoint", "best.pth", 3), ("start", 0, 0)])
def test_a_stop_at_other_points(tmp_path, hook, value, step):
    made, recorder = trainer(Linear(), tmp_path), Recorder({(hook, value): stop})
    run(made, tmp_path, callbacks=[recorder])
    assert made.step == step and made.stopped and recorder.hooks()[-1] == ("end", None)


@pytest.mark.parametrize(
    "hook, value, method, step",
    [
        ("start", 0, "on_train_start", 0),
        ("step", 5, "on_step_end", 5),
        ("step", 6, "on_step_end", 6),
        ("step", 9, "on_step_end", 9),
        ("evaluation", 6, "on_evaluation_end", 6),
        ("evaluation", 9, "on_evaluation_end", 9),
        ("checkpoint", "best.pth", "on_checkpoint", 3),
        ("end", None, "on_train_end", 9),
    ],
)
def test_a_failing_callback_raises_one_error_after_the_state_is_saved(tmp_path, hook, value, method, step):
    other, failing = Recorder(), Recorder({(hook, value): fail})
    made = trainer(Linear(), tmp_path)
    with pytest.raises(Error) as caught:
        run(made, tmp_path, callbacks=[failing, other])
    text = str(caught.value)
    assert text.startswith(f"The callback Recorder failed in {method} (ValueError: no such column: 'loss', test_callb")
    assert "correct it, or remove it from train.callbacks" in text and text.count(". ") == 0
    assert isinstance(caught.value.__cause__.__cause__ or caught.value.__cause__, ValueError)
    assert (hook, value) not in other.hooks() and failing.hooks()[-1] == (hook, value)
    if step:
        assert last_step(tmp_path) == step and f"last.pth of step {step} is saved" in text
    again = trainer(Linear(), tmp_path)
    if step:
        again.resume()
    assert run(again, tmp_path)["error"] == 0.5 and again.step == 9


def test_no_stop_is_requested_without_callbacks():
    assert not Callbacks().stop_requested


class Ends(Callback):
    """Stops a run at step 3; a subclass raises an exception instead."""

    def on_train_start(self, run):
        self.run = run

    def on_step_end(self, step, values):
        if step == 3:
            self.end()

    def end(self):
        self.run.stop()


class Fails(Ends):
    def end(self):
        raise ValueError("on one rank")


@pytest.mark.parametrize("name, status", [("Ends", 0), ("Fails", 2)])
def test_a_stop_or_failure_on_one_rank_stops_all_ranks(fork, tmp_path, name, status):
    words = [
        *TINY,
        "train.batch=16",
        "train.length=5",
        "data.train_images=32",
        "data.val_images=8",
        "train.loggers=[]",
        f"train.callbacks=[engine.test_callbacks:{name}]",
        "--out",
        "run",
    ]
    done = fork("train", *words, ranks=2)
    assert done.returncode == status, done.stderr
    assert last_step(tmp_path / "run") == 3 and done.stderr.count("stopped at step 3") == 1
    assert ("The callback Fails failed in on_step_end (ValueError: on one rank" in done.stderr) == (status == 2)
    assert fork("train", *words[:-3], "--out", "run", "--resume", ranks=2).returncode == 0
    assert last_step(tmp_path / "run") == 5


def test_training_from_python_needs_a_loaded_config():
    with pytest.raises(ConfigError, match=r"custom.yaml is not a loaded config: give resdet.config.load"):
        resdet.train("custom.yaml")


def test_callbacks_from_python(tmp_path):
    recorder = Recorder()
    experiment = resdet.config.load(*TINY[1:], "train.length=2", "train.loggers=[]")
    best = resdet.train(experiment, out=str(tmp_path / "run"), callbacks=[recorder])
    assert recorder.hooks()[-1] == ("end", None) and best["step"] == 2
    assert recorder.run.experiment["train"]["length"] == 2 and 0 <= best["error"] <= 1


def test_a_stop_at_the_start_keeps_the_evaluation_due(tmp_path):
    made = trainer(task := Linear(), tmp_path)
    made.evaluation_due, made.step = True, 3
    task.evaluate = lambda model: pytest.fail("evaluates")
    run(made, tmp_path, callbacks=[Recorder({("start", 3): stop})])
    assert made.stopped and made.evaluation_due
