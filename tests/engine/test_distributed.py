"""Checks that training with two processes matches training with one."""

import json
import os
import re

import pytest
import torch
import torch.distributed as dist
from PIL import Image
from running import TINY, fork, fork_functions, here
from torch import nn

from resdet.backbones.sync_batch_norm import SyncBatchNorm2d
from resdet.engine import distributed
from resdet.engine.distributed import choose_device
from resdet.errors import ConfigError

COMMON = [*TINY, "train.batch=16", "train.length=6", "train.log_every=1", "train.deterministic=true", "optim.lr=0.05"]
COMMON += ["data.train_images=32", "train.loggers=[]"]


def losses(folder, kind):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        (line["step"], line.get("cross_entropy", line.get("loss")), line["error"])
        for line in lines
        if line["kind"] == kind
    ]


def train(tmp_path, how, name, *options, **more):
    done = how(tmp_path, "train", *COMMON, *options, "--out", name, **more)
    assert done.returncode == 0, done.stderr
    return tmp_path / name


@pytest.mark.parametrize("norm", ["sync", "gn"])
def test_two_processes_give_the_loss_curve_of_one(tmp_path, norm):
    """Compares one process and two with the same global batch; the number of validation images is odd on purpose."""
    options = [f"model.backbone.norm={norm}", "data.val_images=33", "train.evaluate_every=3"]
    one, two = train(tmp_path, here, "one", *options), train(tmp_path, fork, "two", *options, ranks=2)
    for kind in ("train", "val"):
        for (step, loss, error), (other_step, other_loss, other_error) in zip(
            losses(one, kind), losses(two, kind), strict=True
        ):
            assert step == other_step
            assert other_loss == pytest.approx(loss, rel=2e-3)
            assert other_error == pytest.approx(error, abs=0.07)  # two images close to a decision boundary may differ
    assert [step for step, *_ in losses(two, "train")] == list(range(1, 7))


def whole_and_cut(tmp_path, cut_at, *options):
    """Loads the last checkpoints of an uninterrupted run and of a resumed run, each with two processes."""
    whole = train(tmp_path, fork, "whole", *options, ranks=2)
    train(tmp_path, fork, "cut", *options, f"train.length={cut_at}", ranks=2)
    cut = train(tmp_path, fork, "cut", *options, "--resume", ranks=2)
    return (torch.load(folder / "last.pth", weights_only=True) for folder in (whole, cut))


def assert_same(first, second):
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_resumed_in_two_processes(tmp_path):
    """Checks that a resumed run equals an uninterrupted one although batch norm statistics differ between processes."""
    whole, cut = whole_and_cut(tmp_path, 4, "schedule.name=constant", "train.evaluate_every=2")
    assert_same(whole["model"], cut["model"])


def test_averaged_weights_in_two_processes(tmp_path):
    """Checks that a resumed run restores the averaged weights and their batch norm statistics."""
    options = ("schedule.name=constant", "train.ema=0.5", "train.checkpoint_every=3")
    whole, cut = whole_and_cut(tmp_path, 3, *options)
    assert_same(whole["trainer"]["averaged"], cut["trainer"]["averaged"])


def keep_statistics():
    """Saves the batch norm statistics of each process before they are averaged for the first time."""
    share, kept = distributed.average_statistics, []

    def watched(model):
        if len(kept) < 2:  # the model and its moving average
            kept.append(model)
            torch.save(statistics(model.state_dict()), f"{len(kept)}-{os.environ['RANK']}.pt")
        share(model)

    distributed.average_statistics = watched


def statistics(state):
    return {name: tensor for name, tensor in state.items() if name.endswith(("running_mean", "running_var"))}


def test_statistics_are_the_mean_of_both_processes(tmp_path):
    options = ("train.length=3", "train.evaluate_every=3", "train.checkpoint_every=3", "train.ema=0.5")
    run = train(tmp_path, fork, "run", *options, ranks=2, first=keep_statistics)
    last = torch.load(run / "last.pth", weights_only=True)
    averaged = {name.removeprefix("module."): tensor for name, tensor in last["trainer"]["averaged"].items()}
    for number, state in enumerate((last["model"], averaged), 1):
        one, two = (torch.load(tmp_path / f"{number}-{rank}.pt", weights_only=True) for rank in (0, 1))
        found = statistics(state)
        assert found.keys() == one.keys() and len(found) > 10
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, (one[name] + two[name]) / 2)
            assert not torch.equal(one[name], two[name])


def test_two_processes_report_a_damaged_image_once(tmp_path):
    """Uses two damaged images, one of which its header reveals before the first of eight epochs."""
    for number in range(18):
        folder = tmp_path / "data" / "train" / ("ant" if number < 9 else "bee")
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), number + 1).convert("RGB").save(folder / f"{number}.png")
    content = (tmp_path / "data/train/ant/3.png").read_bytes()
    (tmp_path / "data/train/ant/3.png").write_bytes(content[:60] + b"\xff" * 340 + content[400:])
    (tmp_path / "data/train/bee/12.png").write_bytes(b"no image")
    words = ["--config", "folder.yaml", "data.root=data", "data.on_bad_image=skip", "data.workers=0", "data.size=32"]
    words += ["data.short=36", "model.backbone=cifar_resnet8", "train.batch=4", "train.length=8", "train.loggers=[]"]
    words += ["train.precision=fp32", "schedule.warmup=0", "train.evaluate_every=8", "data.augment.short=[36,40]"]
    done = fork(tmp_path, "train", *words, "--out", "run", ranks=2)
    assert done.returncode == 0, done.stderr
    reported = sorted(re.findall(r"skipped image (\d): data/train/(?:ant|bee)/(\d+)\.png", done.stderr))
    assert reported == [("1", "12"), ("2", "3")]


def test_batch_must_divide_by_accumulate(tmp_path, command):
    done = command("train", *TINY, "train.batch=9", "train.accumulate=3", "train.length=1", "--out", "run")
    assert done.returncode == 0
    done = command("train", *TINY, "train.batch=9", "train.accumulate=2")
    assert done.returncode == 2 and "train.accumulate" in done.stderr


SHARDS = [(2, 3, 5, 8), (1, 3, 9, 4)]  # a different shape in each process, as in detection


def shard(rank):
    """Returns values far from zero, so that the squared mean is much larger than the variance."""
    generator = torch.Generator().manual_seed(rank)
    return 100 * (1 + rank / 1000) + 0.1 * torch.randn(SHARDS[rank], generator=generator)


def wanted(x):
    """Returns different weights for the sum of the outputs, so that every value gets a different gradient."""
    return torch.arange(x.numel(), dtype=x.dtype).view_as(x).sin()


def normalise_shard(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    x, norm = shard(rank).requires_grad_(), SyncBatchNorm2d(3)
    y = norm(x)
    (y * wanted(y)).sum().backward()
    found = {"y": y.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    torch.save({**found, "mean": norm.running_mean, "var": norm.running_var}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_synchronized_norms_weight_every_pixel_equally(tmp_path):
    """Compares SyncBatchNorm2d with nn.BatchNorm2d in double precision on the pixels of both processes."""
    fork_functions(normalise_shard, tmp_path)
    ours = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    pixels = lambda x: x.double().transpose(0, 1).reshape(1, 3, -1, 1)
    shards = [shard(rank) for rank in (0, 1)]
    x, norm = torch.cat([pixels(x) for x in shards], 2).requires_grad_(), nn.BatchNorm2d(3).double()
    y = norm(x)
    (y * torch.cat([pixels(wanted(x)) for x in shards], 2)).sum().backward()
    joined = lambda name: torch.cat([pixels(found[name]) for found in ours], 2)
    assert torch.allclose(joined("y"), y, atol=1e-3)
    assert torch.allclose(joined("x"), x.grad, atol=1e-2 * x.grad.std().item())
    for name, parameter in norm.named_parameters():
        assert torch.allclose(sum(found[name] for found in ours).double(), parameter.grad, atol=1e-2)
    for found in ours:
        assert torch.allclose(found["mean"].double(), norm.running_mean, rtol=1e-5)
        assert torch.allclose(found["var"].double(), norm.running_var, rtol=1e-4)


@pytest.mark.parametrize(
    "device, sentence",
    [
        ("gpu", "gpu: give auto, cpu, cuda or cuda:N"),
        ("mps", "mps: give auto, cpu, cuda or cuda:N"),
        ("cuda", "cuda: .*no usable GPU"),
    ],
)
def test_unavailable_device_is_an_error(device, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"train.device is {sentence}"):
        choose_device(device)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device, rank, number", [("auto", 1, 1), ("cuda", 0, 0), ("cuda:1", 0, 1)])
def test_the_chosen_gpu_is_the_current_one(device, rank, number, monkeypatch):
    """CUDA graphs and streams are made on the current device."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert choose_device(device, rank) == torch.device("cuda", number) and current == [torch.device("cuda", number)]
    with pytest.raises(ConfigError, match="--device is cuda:2: GPU 2 does not exist, the last one is 1"):
        choose_device("cuda:2", key="--device")


def go_to_a_folder_of_its_own():
    os.chdir(f"machine{os.environ['RANK']}")


@pytest.mark.parametrize("step", [None, 2])
def test_resuming_from_different_steps_is_refused(tmp_path, step):
    for number in (0, 1):
        (tmp_path / f"machine{number}").mkdir()
    train(tmp_path / "machine0", here, "run", "train.length=4")
    if step:
        train(tmp_path / "machine1", here, "run", f"train.length={step}")
    words = ["train", *COMMON, "train.length=4", "--out", "run", "--resume"]
    done = fork(tmp_path, *words, ranks=2, first=go_to_a_folder_of_its_own)
    sentence = (
        f"resdet: The processes would resume from different steps (4, {step or 0}) of run: give --out in a folder"
    )
    assert done.returncode == 2 and done.stderr.count(sentence) == 2
