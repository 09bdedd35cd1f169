"""Tests that data which training or evaluation would reject later are refused before the first step."""

import json
import shutil

import pytest
from tasks import runs
from tasks.test_damaged_data import settings, write

pytestmark = pytest.mark.usefixtures("narrow")

NO_STEP = ["train.length=2", "train.evaluate_every=2"]


@pytest.fixture
def never_stepped(monkeypatch):
    """Fails the test if a training step is taken."""
    from resdet.engine.trainer import Trainer

    def take_step(self, batch):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(Trainer, "take_step", take_step)


@pytest.mark.parametrize("split", ["train", "val"])
def test_damaged_images_are_refused(tmp_path, split, never_stepped):
    for name in ("train", "val"):
        write(tmp_path, name, [], unreadable=name == split)
    line = runs.sentence(runs.here("train", *settings(tmp_path), "data.on_bad_image=error", "--out", tmp_path / "run"))
    assert f"{split}/" in line and "; 1 more is damaged." in line
    assert not (tmp_path / "run").exists()


def test_skipped_images_are_reported_before_the_first_step(tmp_path):
    for name in ("train", "val"):
        write(tmp_path, name, [])
    done = runs.train(tmp_path / "run", *settings(tmp_path), "data.on_bad_image=skip", "train.length=1")
    first = done.stderr.index("step 1/1")
    for split, kind in (("training", "train"), ("validation", "val")):
        assert f"{split}: read the headers of 8 images in " in done.stderr and "2 damaged" in done.stderr
        for name in ("missing", "broken"):
            assert done.stderr.index(f"{kind}/{name}.png") < first and done.stderr.count(f"{kind}/{name}.png") == 1


def without_masks(root, tmp_path, numbers):
    """Copies the data without the masks of these validation annotations; returns the arguments of a run on them."""
    shutil.copytree(root, tmp_path / "data")
    file = tmp_path / "data/annotations/val.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"][numbers]:
        del annotation["segmentation"]
    file.write_text(json.dumps(content))
    return ["train", *runs.of(tmp_path / "data"), *NO_STEP, "--out", tmp_path / "run"]


def test_an_object_without_a_mask_is_left_out_of_mask_AP(root, tmp_path):
    done = runs.here(*without_masks(root, tmp_path, slice(1, 2)))
    assert done.returncode == 0, done.stderr
    assert "1 object without a mask" in done.stderr and "mask_AP" in done.stdout


def test_a_validation_set_without_masks_has_no_mask_AP(root, tmp_path):
    done = runs.here(*without_masks(root, tmp_path, slice(None)))
    assert done.returncode == 0, done.stderr
    assert "mask AP leaves out" in done.stderr and "mask_AP" not in done.stdout and "AP50" in done.stdout


def test_a_validation_set_without_objects_is_refused(tmp_path, never_stepped):
    write(tmp_path, "train", [], unreadable=False)
    content = write(tmp_path, "val", [], unreadable=False)
    (tmp_path / "val.json").write_text(json.dumps(content | {"annotations": []}))
    line = runs.sentence(runs.here("train", *settings(tmp_path), "--out", tmp_path / "run"))
    assert "no objects" in line


def test_a_damaged_image_in_a_folder_of_classes_is_refused(tmp_path, never_stepped):
    done = runs.here("data", "make", "shapes", tmp_path / "data", "--train", 20, "--val", 20, "--size", 48)
    assert done.returncode == 0, done.stderr
    broken = next((tmp_path / "data/val").rglob("*.*"))
    broken.write_bytes(broken.read_bytes()[:100])
    words = ["--config", "folder.yaml", f"data.root={tmp_path / 'data'}", "model.backbone=resnet18", "data.workers=0"]
    line = runs.sentence(runs.here("train", *words, "data.on_bad_image=error", "--out", tmp_path / "run"))
    assert str(broken) in line and not (tmp_path / "run").exists()


def test_an_unknown_metric_to_monitor_is_refused(root, tmp_path, never_stepped):
    """Checks the metrics that the sentence lists, for a detector and a classifier."""
    words = ["train", *runs.of(root), *NO_STEP, "--out", tmp_path / "run"]
    line = runs.sentence(runs.here(*words, "train.monitor=mAP50"))
    assert "train.monitor is mAP50, which the evaluations do not compute: choose one of AP, AP50, AP75, " in line
    assert "mask_AP" in line and "loss, or null." in line and not (tmp_path / "run").exists()
    shapes = ["--config", "shapes_r18.yaml", "data.train_images=8", "data.val_images=4", "data.workers=0"]
    line = runs.sentence(runs.here("train", *shapes, "train.monitor=AP", "--out", tmp_path / "run"))
    assert "choose one of loss, error, top5_error, or null." in line
