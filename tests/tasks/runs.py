"""Helpers for tests of runs and commands: small detection settings, metrics, pycocotools as reference."""

import contextlib
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import running
import torch
from pycocotools import mask

from resdet.detection.data import shape_scenes

# A minimal Mask R-CNN with ResNet-18 and FPN.
SMALL = [
    "model.neck={width: 16, norm: bn}",
    "model.rpn={channels: 16, batch: 32, pre_nms: [40, 40], post_nms: [20, 20]}",
    "model.rpn.anchors.sizes=[[8], [16], [32], [64], [96]]",
    "model.box={width: 32, batch: 16, score: 0.01, detections: 24, candidates: 100}",
    "model.mask={width: 16, convs: 1, norm: bn, regions: 4}",
    "model.input={short: 64, long: 96}",
    "data.augment.short=[64]",
    "data.augment.max_size=96",
    "data.mask_size=14",
    "data.workers=0",
    "train.batch=4",
    "train.length=2",
    "train.evaluate_every=2",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.precision=fp32",
    "schedule.warmup=0",
    "eval.batch=4",
]
CONFIG = ["--config", "shapes_mask_r18_fpn.yaml", *SMALL]
TRAIN, VAL = 12, 6  # images


def scenes(folder: Path) -> Path:
    """Generates a small set of scenes as images and COCO files."""
    shape_scenes.ensure(folder, TRAIN, VAL, 64, 0)
    return folder


def of(root: Path) -> list[str]:
    """Returns the settings of a run on `scenes(root)` in COCO's format."""
    splits = ("train", "val")
    keys = [f"data.{split}={{images: {split}, annotations: annotations/{split}.json}}" for split in splits]
    return [*CONFIG, "data.name=coco", f"data.root={root}", *keys]


def here(*words) -> subprocess.CompletedProcess:
    """Calls `running.here` in the current folder."""
    return running.here(Path.cwd(), *words)


def train(out: Path, *words) -> subprocess.CompletedProcess:
    """Runs `resdet train`, which must succeed."""
    done = here("train", *words, "--out", out)
    assert done.returncode == 0, done.stderr
    return done


def sentence(done: subprocess.CompletedProcess) -> str:
    """Returns the error line of a command that fails with status 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("resdet: ")]
    assert line == done.stderr.splitlines()[-1]
    return line


def metrics(run: Path, kind: str) -> list[dict[str, float]]:
    """Returns the metrics of each line of a kind, `train` or `val`."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.pop("kind") == kind]


def checkpoint(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def pycocotools_figures(truth: dict | str | Path, results: str | Path, kind: str = "bbox") -> dict[str, float]:
    """Computes AP, AP50 and AR100 with pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        if isinstance(truth, dict):
            annotations = COCO()
            annotations.dataset = truth
            annotations.createIndex()
        else:
            annotations = COCO(str(truth))
        judge = COCOeval(annotations, annotations.loadRes(str(results)), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {"AP": judge.stats[0], "AP50": judge.stats[1], "AR100": judge.stats[8]}


def assert_detections(found: list[dict], expected: list[dict]) -> None:
    """Compares detections up to rounding, which depends on the number of threads and on memory alignment."""
    assert [entry["name"] for entry in found] == [entry["name"] for entry in expected]
    for ours, theirs in zip(found, expected):
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(ours["score"], theirs["score"], atol=1e-5)
        np.testing.assert_allclose(ours["box"], theirs["box"], atol=0.01)
        if "segmentation" in ours:
            (overlap,) = mask.iou([ours["segmentation"]], [theirs["segmentation"]], [0])[0]
            area = mask.area(theirs["segmentation"])
            assert overlap > 0.9 or area < 20, f"two masks of {area} pixels differ: IoU {overlap}"
