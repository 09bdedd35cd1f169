"""Tests that killed detection runs resume exactly, and that two processes train and evaluate like one."""

import json
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from engine.test_resume import die_in_step, die_while_writing
from narrow import NARROW
from running import fork
from tasks import runs

from resdet.backbones import resnet
from resdet.engine.trainer import Trainer

pytestmark = pytest.mark.usefixtures("narrow")

EVERYTHING = [
    "train.ema=0.9",
    "train.accumulate=2",
    "optim.clip_norm=1",
    "data.augment.mosaic=0.5",
    "data.augment.copy_paste=0.5",
    "data.sampling=class_aware",
]
LENGTH = 8


def narrowly(first=None):
    """Makes a forked process build narrow nets, and calls `first`."""
    resnet.WIDTHS = NARROW
    if first:
        first()


def settings(root, *more):
    cadence = [f"train.length={LENGTH}", "train.evaluate_every=4", "train.checkpoint_every=3"]
    return [*runs.of(root), *cadence, "train.deterministic=true", *more]


def test_killed_runs_resume_exactly(root, tmp_path):
    """Kills a run within a step, then while it writes a checkpoint, and compares it with an uninterrupted run."""
    words = ["train", *settings(root, *EVERYTHING)]
    runs.train(tmp_path / "whole", *words[1:])
    for cut in (partial(die_in_step, 5), partial(die_while_writing, 5)):
        killed = fork(tmp_path, *words, "--out", "cut", "--resume", first=partial(narrowly, cut))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = fork(tmp_path, *words, "--out", "cut", "--resume", first=narrowly)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from step" in resumed.stderr
    for file in ("last.pth", "best.pth"):
        first, second = (runs.checkpoint(tmp_path / name / file)["model"] for name in ("whole", "cut"))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    logs = [
        [
            {key: value for key, value in line.items() if key not in ("images/s", "data")}
            for kind in ("train", "val")
            for line in runs.metrics(tmp_path / name, kind)
        ]
        for name in ("whole", "cut")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == LENGTH + 2
    first, second = ((tmp_path / name / "results.json").read_bytes() for name in ("whole", "cut"))
    assert first == second and len(first) > 2


def watch():
    """Records the images of each step: index, sum of the pixels, sum of the boxes."""
    take_step = Trainer.take_step

    def watched(self, batch):
        pixels, boxes = batch.images.pixels.sum((1, 2, 3)), batch.targets.boxes.sum((1, 2))
        images = zip(batch.indices.tolist(), pixels.tolist(), boxes.tolist())
        with Path(f"seen-{self.world.size}-{self.world.rank}.jsonl").open("a") as file:
            file.write(json.dumps([self.step, list(images)]) + "\n")
        return take_step(self, batch)

    Trainer.take_step = watched


def seen(tmp_path, world):
    """Returns the images of all processes by step, as recorded by `watch`."""
    steps = {}
    for rank in range(world):
        for line in (tmp_path / f"seen-{world}-{rank}.jsonl").read_text().splitlines():
            step, images = json.loads(line)
            steps.setdefault(step, []).extend(images)
    return steps


def figures(path):
    found = json.loads(path.read_text())
    return {f"{kind} {name}": found[kind][name] for kind in ("bbox", "segm") for name in ("AP", "AP50", "AR100")} | {
        name: pytest.approx(value, rel=1e-6) for name, value in found["losses"].items()
    }


def test_two_processes_equal_one(root, tmp_path):
    """Compares one and two processes by the augmented images of each step and the metrics of equal weights."""
    words = ["train", *settings(root, "data.augment.mosaic=0.5", "train.length=4", "eval.batch=2")]
    for ranks, out in ((1, "one"), (2, "two")):
        done = fork(tmp_path, *words, "--out", out, ranks=ranks, first=partial(narrowly, watch))
        assert done.returncode == 0, done.stderr
    one, two = seen(tmp_path, 1), seen(tmp_path, 2)
    assert one.keys() == two.keys() == set(range(4))
    assert all(len(images) == 4 for images in one.values())
    for step, images in one.items():
        assert [index for index, *_ in images] == [index for index, *_ in two[step]]
        assert [pixels for _, pixels, _ in images] == [pixels for _, pixels, _ in two[step]]
        assert [boxes for *_, boxes in images] == pytest.approx([boxes for *_, boxes in two[step]], rel=1e-6)

    weights = ["--weights", tmp_path / "two/best.pth"]
    by_one = runs.here("evaluate", *weights, "--json", tmp_path / "one.json", "--save", tmp_path / "by-one.json")
    told = ["evaluate", *weights, "--json", "two.json", "--save", "by-two.json"]
    by_two = fork(tmp_path, *told, ranks=2, first=narrowly)
    assert by_one.returncode == by_two.returncode == 0, by_one.stderr + by_two.stderr
    assert figures(tmp_path / "one.json") == figures(tmp_path / "two.json")
    (logged,) = runs.metrics(tmp_path / "two", "val")
    found = json.loads((tmp_path / "one.json").read_text())
    assert logged["AP"] == pytest.approx(found["bbox"]["AP"], rel=1e-5)
    assert logged["box"] == pytest.approx(found["losses"]["box"], rel=1e-5)

    def detections(name):
        entries = json.loads((tmp_path / name).read_text())
        return sorted(entries, key=lambda e: (e["image_id"], -e["score"], e["category_id"], e["bbox"]))

    assert detections("by-one.json") == detections("by-two.json")
    assert by_two.stdout.count("bbox\n") == 1  # only rank 0 prints
