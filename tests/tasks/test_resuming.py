"""A detector's run that is cut ends as one that is not; two processes do the work of one."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from running import REPOSITORY, TORCHRUN, process
from running import run as finish
from tasks import runs

EVERYTHING = [
    "train.ema=0.9",
    "train.accumulate=2",
    "optim.clip_norm=1",
    "data.augment.mosaic=0.5",
    "data.augment.copy_paste=0.5",
    "data.sampling=class_aware",
]
LENGTH = 12


def settings(root, *more):
    cadence = [f"train.length={LENGTH}", "train.evaluate_every=4", "train.checkpoint_every=3"]
    return [*runs.of(root), *cadence, "train.deterministic=true", *more]


def wait_for_step(folder, step, running):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None:
        if (folder / "last.pth").exists() and runs.metrics(folder, "train")[-1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(running.communicate()[1])


def test_killed_and_resumed(root, tmp_path):
    words = ["train", *settings(root, *EVERYTHING)]
    whole = process(tmp_path, *words, "--out", "whole")
    cut = process(tmp_path, *words, "--out", "cut")
    wait_for_step(tmp_path / "cut", random.Random(0).randrange(4, LENGTH - 2), cut)
    time.sleep(random.Random(0).random() * 0.1)
    cut.send_signal(signal.SIGKILL)
    assert cut.wait() == -signal.SIGKILL

    resumed = finish(tmp_path, *words, "--out", "cut", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step" in resumed.stderr
    assert whole.wait(120) == 0
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
    assert logs[0] == logs[1] and len(logs[0]) == LENGTH + 3
    first, second = ((tmp_path / name / "results.json").read_bytes() for name in ("whole", "cut"))
    assert first == second and len(first) > 2


WATCHED = """
import json, sys
from resdet import cli
from resdet.engine.trainer import Trainer

take_step = Trainer.take_step

def watched(self, batch):
    pixels, boxes = batch.images.pixels.sum((1, 2, 3)), batch.targets.boxes.sum((1, 2))
    images = zip(batch.indices.tolist(), pixels.tolist(), boxes.tolist())
    with open(f"seen-{self.world.size}-{self.world.rank}.jsonl", "a") as file:
        file.write(json.dumps([self.step, list(images)]) + "\\n")
    return take_step(self, batch)

Trainer.take_step = watched
sys.exit(cli.main())
"""


def watch(tmp_path, launcher, words):
    """`resdet train` by a script that also writes down the images of each step."""
    script = tmp_path / "watched.py"
    script.write_text(WATCHED)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, *launcher, str(script), *words]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def seen(tmp_path, world):
    """For each step the images of all processes: index, sum of the pixels, sum of the boxes."""
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


def test_two_processes_do_the_work_of_one(root, tmp_path):
    """The same images come at each step, augmented alike; and the same weights get the very same figures."""
    words = ["train", *settings(root, "data.augment.mosaic=0.5", "train.length=4", "eval.batch=2")]
    watch(tmp_path, (), [*words, "--out", "one"])
    watch(tmp_path, TORCHRUN[:-2], [*words, "--out", "two"])
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
    by_two = finish(tmp_path, *told, launcher=TORCHRUN)
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
    assert by_two.stdout.count("bbox\n") == 1  # one process speaks
