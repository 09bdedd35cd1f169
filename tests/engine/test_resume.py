"""Checks that an interrupted and resumed run ends with exactly the weights of an uninterrupted one."""

import json
import os
import signal
import time
from functools import partial

import pytest
import torch
from running import LIMIT

from resdet.engine.trainer import Trainer


def weights(folder):
    return torch.load(folder / "last.pth", weights_only=True)["model"]


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def after_step(number, action):
    """Patches the trainer to call `action` after the given step, before anything of the step is written."""
    take_step = Trainer.take_step

    def watched(self, batch):
        take_step(self, batch)
        if self.step == number:
            action()

    Trainer.take_step = watched


def die_in_step(number):
    after_step(number, die)


def die_while_writing(number):
    """Kills the process at the first fsync after the given step, while the file still has its temporary name."""

    def arm():
        os.fsync = lambda file: die()

    after_step(number, arm)


STEPS = 24
LENGTH = [f"train.length={STEPS}", "train.evaluate_every=6"]
OPTIONS = {
    "plain": ["train.checkpoint_every=4"],
    "everything": [
        "train.ema=0.9",
        "train.accumulate=2",
        "data.mixup=0.2",
        "data.cutmix=1.0",
        "optim.clip_norm=1",
        "schedule.name=plateau",
        "schedule.patience=1",
        "schedule.warmup_until_error=0.85",
        "train.exact_statistics=32",
        "train.checkpoint_every=5",
    ],
}


@pytest.mark.parametrize("options", OPTIONS)
def test_a_killed_run_resumes_exactly(tmp_path, command, fork, tiny, options):
    """Kills the run in a step, while it writes a checkpoint, and in a later step, and resumes it after each."""
    run = ["train", *tiny, "data.train_images=32", "train.deterministic=true", *LENGTH, *OPTIONS[options]]
    whole = command(*run, "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    for number, cut in enumerate([partial(die_in_step, 9), partial(die_while_writing, 13), partial(die_in_step, 22)]):
        killed = fork(*run, "--out", "cut", "--resume", first=cut)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert ("resuming from step" in killed.stderr) == (number > 0)
        assert ("cut has no last.pth: the run starts at step 0" in killed.stderr) == (number == 0)
    resumed = fork(*run, "--out", "cut", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from step" in resumed.stderr and f"from step {STEPS}" not in resumed.stderr
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))

    def log(name):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key not in ("images/s", "data")} for line in lines]

    assert log("whole") == log("cut")


def wait_for_step(folder, step, process):
    """Waits until metrics.jsonl holds the step."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(process.communicate()[1])


def test_an_interrupted_run_saves_and_exits(tmp_path, start, tiny):
    """Sends SIGINT to the command in a run that would not end otherwise."""
    rarely = [f"train.{key}=1000000" for key in ("length", "checkpoint_every", "evaluate_every")]
    process = start("train", *tiny, *rarely, "--out", "run")
    wait_for_step(tmp_path / "run", 10, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0 and "continue with --resume" in said
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["trainer"]["step"] >= 10


def test_an_occupied_folder_is_not_overwritten(tmp_path, command, tiny):
    run = ["train", *tiny, "train.length=5", "--out", "run"]
    assert command(*run).returncode == 0
    again = command(*run)
    assert again.returncode == 2 and "--resume" in again.stderr
    finished = command(*run, "--resume")
    assert finished.returncode == 0 and "complete" in finished.stderr


def test_folders_are_numbered_and_the_last_is_resumed(tmp_path, command, tiny):
    for _ in range(2):
        assert command("train", *tiny, "train.length=5").returncode == 0
    assert (tmp_path / "runs/shapes_resnet20-2/best.pth").exists()
    resumed = command("train", *tiny, "train.length=10", "--resume")
    assert "shapes_resnet20-2/last.pth" in resumed.stderr
    assert "changed since the checkpoint: train.length was 5.0 and is 10.0" in resumed.stderr
    record = json.loads((tmp_path / "runs/shapes_resnet20-2/run.json").read_text())
    assert record["packages"]["torch"] and record["seed"] == 0


def test_the_config_of_a_run_resumes_that_run(tmp_path, command, tiny):
    for out in ("runs/shapes_resnet20", "runs/other"):
        assert command("train", *tiny, "train.length=5", "--out", out).returncode == 0
    resumed = command("train", "--config", "runs/other/config.yaml", "train.length=10", "--resume")
    assert "resuming from step 5 of runs/other/last.pth" in resumed.stderr, resumed.stderr


def test_another_model_or_optimizer_is_refused(tmp_path, command, tiny):
    run = ["train", *tiny, "train.length=4", "--out", "run"]
    assert command(*run).returncode == 0
    for setting in ("optim.name=adamw", "model.backbone=cifar_resnet14", "optim.decay_norm_and_bias=false"):
        again = command(*run, setting, "train.length=8", "--resume")
        assert again.returncode == 2 and "has another model or optimizer" in again.stderr, again.stderr
