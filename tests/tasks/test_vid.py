"""Tests ILSVRC VID on generated videos: training, metrics, submission and drawn frames."""

import json

import pytest
from tasks import runs

import resdet
from resdet.detection.data.config import ShapeVidConfig
from resdet.detection.task import DETECTOR

pytestmark = pytest.mark.usefixtures("narrow")

VIDEOS = {"train_videos": 4, "val_videos": 3, "frames": 6, "train_images": 2, "side": 64}
SMALL = [
    *(word for word in DETECTOR if "num_classes" not in word),
    *("train.length=2", "train.evaluate_every=2", "train.batch=2", "train.log_every=1", "train.precision=fp32"),
    *("data.augment={min_size: [64], max_size: 64}", "data.workers=0", "eval={batch: 4, score: 0}"),
    *("model.input={min_size: 64, max_size: 64}", "optim.clip_norm=1"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return ShapeVidConfig("shape_vid", str(tmp_path_factory.mktemp("data") / "videos"), **VIDEOS)


def test_train_evaluate_submit_and_predict(data, tmp_path):
    words = ["data.name=shape_vid", f"data.root={data.root}", *(f"data.{key}={value}" for key, value in VIDEOS.items())]
    run = tmp_path / "run"
    runs.train(run, "--config", "ilsvrc_vid_r101.yaml", *SMALL, *words)
    (logged,) = runs.metrics(run, "val")
    assert {"mAP", "mAP_slow", "mAP_medium", "mAP_fast"} <= set(logged)

    weights = ["--weights", run / "best.pth"]
    done = runs.here("evaluate", *weights, "--json", tmp_path / "metrics.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "metrics.json").read_text())["bbox"]
    assert found["mAP"] == pytest.approx(logged["mAP"], rel=1e-5) and len(found["per_class"]) == 30

    done = runs.here("evaluate", *weights, "--submission", tmp_path / "vid.txt")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in (tmp_path / "vid.txt").read_text().splitlines()]
    assert f"{len(lines)} detections in 18 images" in done.stdout and all(len(line) == 7 for line in lines)
    assert 1 <= min(int(line[0]) for line in lines) and max(int(line[0]) for line in lines) <= 18

    video = f"{data.root}/ILSVRC/Data/VID/val/ILSVRC2015_val_00000001"
    done = runs.here("predict", *weights, "--no-compile", "--draw", tmp_path / "drawn", video)
    assert done.returncode == 0, done.stderr
    names = [f"{number:06d}" for number in range(6)]
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == [f"{k:04d}_{name}.jpg" for k, name in enumerate(names, 1)]

    model = resdet.load(run / "best.pth")
    results = list(model.predict(video, stream=True))
    assert [result.image.stem for result in results] == names
    alone = model.predict(f"{video}/000004.JPEG")
    assert results[4].boxes == pytest.approx(alone.boxes, abs=1e-3)
