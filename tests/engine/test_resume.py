"""A run that is cut, however it is cut, ends with the very weights of one that is not."""

import json
import random
import signal
import time

import pytest
import torch


def weights(folder):
    return torch.load(folder / "last.pth", weights_only=True)["model"]


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def wait_for_step(folder, step, process):
    """Until metrics.jsonl tells of a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


OPTIONS = {
    "plain": [],
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
        "train.checkpoint_every=7",
    ],
}


@pytest.mark.parametrize("options", OPTIONS)
def test_killed_and_resumed(tmp_path, command, start, tiny, options):
    run = ["train", *tiny, "train.deterministic=true", "train.length=400", *OPTIONS[options]]
    whole = start(*run, "--out", "whole")
    cut = start(*run, "--out", "cut")
    wait_for_step(tmp_path / "cut", random.Random(options).randrange(20, 60, 5), cut)
    time.sleep(random.Random(options).random() * 0.05)
    cut.send_signal(signal.SIGKILL)
    assert cut.wait() == -signal.SIGKILL

    resumed = command(*run, "--out", "cut", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step" in resumed.stderr
    assert "from step 400" not in resumed.stderr
    assert whole.wait(120) == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))

    def log(name):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key not in ("images/s", "data")} for line in lines]

    assert log("whole") == log("cut")


def test_interrupted_in_good_order(tmp_path, command, start, tiny):
    run = [
        "train",
        *tiny,
        "train.length=2000",
        "train.checkpoint_every=2000",
        "train.evaluate_every=2000",
        "--out",
        "run",
    ]
    process = start(*run)
    wait_for_step(tmp_path / "run", 10, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "go on with --resume" in said
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
    assert "changed since then: train.length was 5.0 and is 10.0" in resumed.stderr
    record = json.loads((tmp_path / "runs/shapes_resnet20-2/run.json").read_text())
    assert record["packages"]["torch"] and record["seed"] == 0 and "train.length=10" in record["command"]


def test_another_model_or_optimiser_is_refused(tmp_path, command, tiny):
    run = ["train", *tiny, "train.length=4", "--out", "run"]
    assert command(*run).returncode == 0
    for setting in ("optim.name=adamw", "model.backbone=cifar_resnet14", "optim.decay_norm_and_bias=false"):
        again = command(*run, setting, "train.length=8", "--resume")
        assert again.returncode == 2 and "of another model, or optimiser" in again.stderr, again.stderr
