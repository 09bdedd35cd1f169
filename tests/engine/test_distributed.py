"""Two processes under plain torchrun do the work of one."""

import json

import pytest
import torch
from running import COMMAND, TINY, TORCHRUN, run

COMMON = [*TINY, "train.batch=16", "train.length=20", "train.log_every=1", "train.deterministic=true", "optim.lr=0.05"]


def losses(folder, kind):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        (line["step"], line.get("cross_entropy", line.get("loss")), line["error"])
        for line in lines
        if line["kind"] == kind
    ]


def train(tmp_path, launcher, name, *options):
    done = run(tmp_path, "train", *COMMON, *options, "--out", name, launcher=launcher)
    assert done.returncode == 0, done.stderr
    return tmp_path / name


@pytest.mark.parametrize("norm", ["sync", "gn"])
def test_the_loss_curve_of_one_process(tmp_path, norm):
    """The same global batch, in one process and in two halves; 33 validation images do not divide by two."""
    options = [f"model.backbone.norm={norm}", "data.val_images=33"]
    one, two = train(tmp_path, COMMAND, "one", *options), train(tmp_path, TORCHRUN, "two", *options)
    for kind in ("train", "val"):
        for (step, loss, error), (other_step, other_loss, other_error) in zip(
            losses(one, kind), losses(two, kind), strict=True
        ):
            assert step == other_step
            assert other_loss == pytest.approx(loss, rel=2e-3)
            assert other_error == pytest.approx(error, abs=0.07 if step > 10 else 1e-6)
    assert [step for step, *_ in losses(two, "train")] == list(range(1, 21))


def test_resumed_in_two_processes(tmp_path):
    """Batch norm follows each process's own batches; a checkpoint makes them one, and a run goes on from it exactly."""
    constant = ("schedule.name=constant", "train.evaluate_every=5")
    whole = train(tmp_path, TORCHRUN, "whole", *constant)
    train(tmp_path, TORCHRUN, "cut", *constant, "train.length=10")
    cut = train(tmp_path, TORCHRUN, "cut", *constant, "--resume")
    first, second = (torch.load(folder / "last.pth", weights_only=True)["model"] for folder in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_batch_that_does_not_divide(tmp_path, command):
    done = command("train", *TINY, "train.batch=9", "train.accumulate=3", "train.length=1", "--out", "run")
    assert done.returncode == 0
    done = command("train", *TINY, "train.batch=9", "train.accumulate=2")
    assert done.returncode == 2 and "train.accumulate" in done.stderr


def test_averaged_weights_in_two_processes(tmp_path):
    """Their batch norm statistics are as much of one process as those of the weights themselves."""
    options = ("schedule.name=constant", "train.ema=0.5", "train.checkpoint_every=3")
    whole = train(tmp_path, TORCHRUN, "whole", *options)
    train(tmp_path, TORCHRUN, "cut", *options, "train.length=9")
    cut = train(tmp_path, TORCHRUN, "cut", *options, "--resume")
    first, second = (torch.load(f / "last.pth", weights_only=True)["trainer"]["averaged"] for f in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
