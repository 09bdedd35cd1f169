"""Tests runs on damaged detection data: problems are counted and reported, without a traceback."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from tasks import runs

import resdet

pytestmark = pytest.mark.usefixtures("narrow")

SIZES = {"sound": (64, 48), "empty": (64, 48), "crowd": (64, 48), "dot": (1, 1), "wide": (20000, 8), "many": (64, 48)}
IDS = {name: 10 * number for number, name in enumerate([*SIZES, "missing", "broken"], start=1)}
CATEGORIES = [{"id": 90, "name": "beta"}, {"id": 5, "name": "alpha"}]
MANY = 500  # objects in one image, more than `max_objects`


def annotation(number, image, box, category=5, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": crowd,
    }


LOST = annotation(6, IDS["broken"], [5, 5, 30, 30])  # in an unreadable image, so no detector can find it


def sound_annotations(rng):
    """Yields valid annotations, including unusual ones."""
    yield annotation(1, IDS["sound"], [5, 5, 20, 20])
    yield annotation(2, IDS["sound"], [20, 10, 30, 30], 90)
    yield annotation(3, IDS["crowd"], [5, 5, 50, 40], crowd=1)
    yield annotation(4, IDS["dot"], [0, 0, 1, 1])
    yield annotation(5, IDS["wide"], [9000, 0, 4000, 8], 90)
    for number in range(MANY):
        x, y = (round(float(side), 2) for side in rng.uniform(0, (54, 38)))
        yield annotation(100 + number, IDS["many"], [x, y, 8, 8], (5, 90)[number % 2])


DAMAGE = {
    "without area": annotation(1001, IDS["sound"], [5, 5, 0, 10]),
    "outside of its image": annotation(1002, IDS["sound"], [500, 500, 10, 10]),
    "NaN": annotation(1003, IDS["sound"], [float("nan"), 1, 5, 5]),
    "category_id that no": annotation(1004, IDS["sound"], [1, 1, 9, 9], 77),
    "image_id that no": annotation(1005, 9999, [1, 1, 9, 9]),
    "an id that another": annotation(2, IDS["sound"], [30, 20, 9, 9]),
}


def write(root, split, damage, unreadable=True):
    """Writes root/SPLIT/*.png and root/SPLIT.json with these kinds of damage; returns the valid part of the content."""
    rng = np.random.default_rng(0)
    (root / split).mkdir(parents=True)
    images = []
    for name, (width, height) in SIZES.items():
        cv2.imwrite(str(root / split / f"{name}.png"), rng.integers(0, 255, (height, width, 3), np.uint8))
        images.append({"id": IDS[name], "file_name": f"{name}.png", "width": width, "height": height})
    sound = {"images": images, "annotations": list(sound_annotations(rng)), "categories": CATEGORIES}
    bad = {"images": [], "annotations": [DAMAGE[kind] for kind in damage]}
    if unreadable:
        (root / split / "broken.png").write_bytes((root / split / "sound.png").read_bytes()[:100])
        for name in ("missing", "broken"):
            bad["images"].append({"id": IDS[name], "file_name": f"{name}.png", "width": 64, "height": 48})
        bad["annotations"].append(LOST)
    (root / f"{split}.json").write_text(json.dumps(sound | {key: sound[key] + bad[key] for key in bad}))
    return sound


def settings(root):
    splits = [f"data.{split}={{images: {split}, annotations: {split}.json}}" for split in ("train", "val")]
    sizes = ["model.mask=null", "data.max_objects=50", "eval.batch=3", "train.length=4", "train.evaluate_every=4"]
    return [*runs.CONFIG, "data.name=coco", f"data.root={root}", *splits, *sizes]


SKIP = ["data.on_bad_image=skip", "data.on_bad_annotation=skip"]


def test_a_run_skips_all_kinds_of_damage(tmp_path):
    """Checks that each omission is reported once and that the metrics equal those of pycocotools on the valid data."""
    write(tmp_path, "train", DAMAGE)
    sound = write(tmp_path, "val", DAMAGE)
    done = runs.train(tmp_path / "run", *settings(tmp_path), *SKIP)
    said = done.stderr.splitlines()
    for split in ("train", "val"):
        for kind, entry in DAMAGE.items():
            (line,) = [line for line in said if kind in line and f"{split}.json" in line]
            assert "left out 1 annotation with" in line and line.endswith(f": {entry['id']}")
        for name in ("missing", "broken"):
            (line,) = [line for line in said if f"{split}/{name}.png" in line]
            assert re.match(r"note on the data \d: image left out, ", line)
        (line,) = [line for line in said if f"{split}/many.png" in line]
        assert "more than 50 objects" in line and "of 500" in line
    (figures,) = runs.metrics(tmp_path / "run", "val")
    assert all(np.isfinite(value) for value in figures.values())
    expected = runs.pycocotools_figures(sound, tmp_path / "run/results.json")
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-5, abs=1e-12)
    drawn = {path.stem.rpartition("_")[2] for path in (tmp_path / "run/pictures").iterdir()}
    assert drawn == set(SIZES)

    done = runs.here("evaluate", "--weights", tmp_path / "run/best.pth", "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["bbox"]["AP"] == pytest.approx(figures["AP"], rel=1e-5)

    paths = [tmp_path / "val" / f"{name}.png" for name in SIZES]
    results = resdet.load(tmp_path / "run/best.pth").predict(paths, score=0.0)
    for result, (width, height) in zip(results, SIZES.values()):
        assert result.size == (height, width) and np.isfinite(result.boxes).all()
        assert (result.boxes >= 0).all() and (result.boxes <= (width, height, width, height)).all()


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_annotations_are_errors_with_on_bad_annotation_error(tmp_path, kind):
    write(tmp_path, "train", [kind], unreadable=False)
    write(tmp_path, "val", [], unreadable=False)
    done = runs.here("train", *settings(tmp_path), "data.on_bad_annotation=error", "--out", tmp_path / "run")
    line = runs.sentence(done)
    assert kind in line and "train.json" in line and str(DAMAGE[kind]["id"]) in line and "on_bad_annotation" in line


@pytest.mark.parametrize("split", ["train", "val"])
def test_unreadable_images_are_errors_with_on_bad_image_error(tmp_path, split):
    for name in ("train", "val"):
        write(tmp_path, name, [], unreadable=name == split)
    done = runs.here("train", *settings(tmp_path), "data.on_bad_image=error", "--out", tmp_path / "run")
    assert re.search(rf"{split}/(missing|broken)\.png", runs.sentence(done))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_nonfinite_loss_stops_the_run(tmp_path, workers):
    """Checks that the error names the loss, the step and an image, and that last.pth is unchanged."""
    write(tmp_path, "train", [], unreadable=False)
    write(tmp_path, "val", [], unreadable=False)
    words = [*settings(tmp_path), "schedule.name=constant", f"data.workers={workers}"]
    words += ["train.evaluate_every=9", "train.checkpoint_every=9"]
    runs.train(tmp_path / "run", *words, "train.length=2")
    before = (tmp_path / "run/last.pth").read_bytes()
    spoilt = runs.here("train", *words, "optim.lr=1e9", "train.length=9", "--out", tmp_path / "run", "--resume")
    line = runs.sentence(spoilt)
    found = re.search(r"The loss (\w+) became (nan|inf|-inf) at step (\d+) on (\S+\.png), ", line)
    assert found and found[1] in ("rpn_objectness", "rpn_box", "class", "box") and "optim.lr" in line
    assert 3 <= int(found[3]) <= 9 and (tmp_path / "run/last.pth").read_bytes() == before


def test_nonfinite_weights_are_not_saved(tmp_path):
    """Checks that weights with NaN or infinity are not saved, even while the losses are finite."""
    write(tmp_path, "train", [], unreadable=False)
    write(tmp_path, "val", [], unreadable=False)
    words = [*settings(tmp_path), "train.checkpoint_every=1", "train.length=9", "optim.lr=1e9"]
    assert "optim.lr" in runs.sentence(runs.here("train", *words, "--out", tmp_path / "run"))
    content = runs.checkpoint(tmp_path / "run/last.pth")
    assert all(torch.isfinite(tensor).all() for tensor in content["model"].values())
    assert resdet.load(tmp_path / "run/last.pth").classes == ["alpha", "beta"]


def test_a_validation_set_without_objects_is_refused(tmp_path):
    write(tmp_path, "train", [], unreadable=False)
    content = write(tmp_path, "val", [], unreadable=False)
    (tmp_path / "val.json").write_text(json.dumps(content | {"annotations": []}))
    done = runs.here("train", *settings(tmp_path), "--out", tmp_path / "run")
    assert "no objects" in runs.sentence(done)


def test_training_images_without_objects_have_classification_losses_only(tmp_path):
    content = write(tmp_path, "train", [], unreadable=False)
    write(tmp_path, "val", [], unreadable=False)
    (tmp_path / "train.json").write_text(json.dumps(content | {"annotations": []}))
    runs.train(tmp_path / "run", *settings(tmp_path), "optim.lr=0.001")
    for line in runs.metrics(tmp_path / "run", "train"):
        assert line["rpn_objectness"] > 0 and line["class"] > 0 and line["rpn_box"] == line["box"] == 0
