"""Tests Keypoint R-CNN on generated scenes: the commands, and overfitting to eight images."""

import json

import numpy as np
import pytest
import torch
from tasks import corners, runs

import resdet
from resdet import config
from resdet.data.loader import Notes
from resdet.detection.build import build_detector
from resdet.detection.data.coco import open_coco
from resdet.detection.data.collate import TargetFormat
from resdet.detection.data.loader import SceneLoader
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.tta import EnsembleDetector

pytestmark = pytest.mark.usefixtures("narrow")

KEYPOINT = "model.keypoint={width: 16, convs: 1, regions: 8}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return corners.write(tmp_path_factory.mktemp("data") / "corners")


def words(root, *more: str) -> list[str]:
    return [*runs.of(root), "model.mask=null", KEYPOINT, *more]


def test_train_evaluate_and_predict(root, tmp_path, monkeypatch):
    """Checks that `resdet evaluate` reproduces the logged AP and that the checkpoint stores names and skeleton."""
    monkeypatch.chdir(tmp_path)
    runs.train(tmp_path / "run", *words(root))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    (evaluated,) = [line for line in lines if "keypoint_AP" in line or "val/keypoint_AP" in line]
    model = resdet.load(tmp_path / "run/best.pth")
    assert model.keypoints.keypoint_names == corners.NAMES and model.keypoints.limbs[0] == (0, 1)

    done = runs.here("evaluate", "--weights", "run/best.pth", "--json", "m.json", "--save", "found.json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "m.json").read_text())
    (name,) = [key for key in evaluated if key.endswith("keypoint_AP")]
    assert metrics["keypoints"]["AP"] == pytest.approx(evaluated[name], abs=1e-6)
    assert metrics["losses"]["keypoint"] > 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found[0]["keypoints"]) == 12 and len(found[0]["keypoint_scores"]) == 4
    files = ("--annotations", root / "annotations/val.json", "--results", "found.json", "--type", "keypoints")
    done = runs.here("evaluate", *files, "--json", "again.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "again.json").read_text())["AP"] == pytest.approx(metrics["keypoints"]["AP"])

    predict = ("predict", "--weights", "run/best.pth", root / "val/1.png", "--json", "p.json", "--draw", "drawn")
    done = runs.here(*predict, "--score", "0")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "p.json").read_text())
    assert list(result["detections"][0]["keypoints"]) == corners.NAMES
    assert [tuple(pair) for pair in result["skeleton"]] == model.keypoints.limbs


def test_invalid_keypoint_settings_are_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for change, word in (
        (["data.keypoints=false"], "annotations have no keypoints"),
        (["model.keypoint.names=[a, b, c, d]"], "model.keypoint.names are a, b, c"),
        (["model.features=c4", "model.rpn.anchors.sizes=[[16]]"], "model.keypoint"),
    ):
        done = runs.here("train", *words(root, *change), "--out", "run")
        assert done.returncode == 2 and word in done.stderr, done.stderr


def learned(root, steps: int) -> tuple:
    """Trains a detector on eight images, with flips; returns it and its keypoint loss of each step."""
    experiment = config.load(
        "shapes_mask_r18_fpn.yaml", *words(root, "model.keypoint.width=32", "model.box.width=64")[2:]
    )
    source = open_coco(root / "annotations/train.json", root / "train")
    experiment.model.keypoint.names = corners.NAMES
    torch.manual_seed(0)
    model = build_detector(experiment, source.classes, source.category_ids)
    device, notes = torch.device("cpu"), Notes(print)
    batches = SceneLoader(
        source, experiment.data.augment, 8, 0, device, notes, targets=TargetFormat(keypoints=4), workers=0
    ).batches(0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    history = []
    for _, batch in zip(range(steps), batches):
        optimizer.zero_grad()
        losses = model.losses(batch.images, batch.targets)
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append(losses["keypoint"].item())
    return model.eval(), history


@pytest.fixture(scope="module")
def taught(root):
    from narrow import narrow_resnets

    with narrow_resnets():
        return learned(root, 60)


def corners_found(root, predictor) -> np.ndarray:
    """Returns the mean corner error in pixels of each fully labeled object in the training images."""
    content = json.loads((root / "annotations/train.json").read_text())
    distances = []
    for image in content["images"]:
        result = predictor.predict(str(root / "train" / image["file_name"]), score=0.0)
        for entry in content["annotations"]:
            if entry["image_id"] != image["id"] or entry["num_keypoints"] < 4:
                continue
            x, y, width, height = entry["bbox"]
            nearest = np.abs(result.boxes - [x, y, x + width, y + height]).max(1).argmin()
            truth = np.array(entry["keypoints"]).reshape(4, 3)[:, :2] + 0.5
            distances.append(np.linalg.norm(result.keypoints[nearest, :, :2] - truth, axis=1).mean())
    return np.array(distances)


def test_training_reduces_loss_and_corner_error(root, taught):
    """Checks that the loss starts at chance, ln 56², and that left and right corners are told apart despite flips."""
    model, history = taught
    assert history[0] == pytest.approx(np.log(56**2), rel=0.2)
    assert np.mean(history[-5:]) < history[0] - 2
    assert np.median(corners_found(root, model)) < 6


def test_flip_at_test_time_swaps_left_and_right(root, taught):
    """Averages keypoints over an image and its mirror image, where left and right keypoints must be swapped."""
    model, _ = taught
    both = EnsembleDetector([model], TTAConfig(flip=True))
    assert np.median(corners_found(root, both)) < 6
    assert np.median(corners_found(root, EnsembleDetector([model, model]))) < 6


def test_an_exported_file_finds_the_same_keypoints(root, taught, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from resdet.export import to_onnx

    to_onnx(taught[0], tmp_path / "model.onnx")
    exported = resdet.load(tmp_path / "model.onnx")
    assert np.median(corners_found(root, exported)) < 6
