"""The commands `resdet data split|merge|subset|show`, and a training on a YOLO folder."""

import json
import re

import cv2
import numpy as np
import pytest
from detection.formats.samples import coco, objects, opened, picture, voc, write
from running import here
from running import run as process
from tasks import runs

from resdet.detection.formats.data_set import DataSet, sample_images
from resdet.detection.formats.registry import recognize


def run(folder, *words):
    """Returns the JSON and the output of a successful command."""
    done = here(folder, "data", *words, "--json", folder / "said.json")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "said.json").read_text()), done.stdout


def yolo(root, names, labels, prefix="", count=20):
    """Writes a folder without a validation split; image k has the labels `labels(k)`."""
    files = {"classes.txt": "\n".join(names)}
    for k in range(count):
        files[f"{prefix}{k}.txt"] = "".join(f"{label} .5 .5 .{5 if k % 2 else 1} .5\n" for label in labels(k))
    write(root, files)
    for k in range(count):
        picture(root / f"{prefix}{k}.jpg", seed=k + len(prefix) * 1000)
    return root


def test_split(tmp_path):
    root = yolo(tmp_path / "data", ["cat", "dog"], lambda k: [0, 1] if k % 2 else [0])
    said, text = run(tmp_path, "split", root, "--val", "0.3", "--seed", "5")
    assert said["images"] == {"train": 14, "val": 6} and said["images_with"]["val"] == {"cat": 6, "dog": 3}
    assert "dog: in 7 and 3 images" in text
    chosen = set(opened(root, "val").files)
    assert len(chosen) == 6 and len(opened(root)) == 14
    run(tmp_path, "split", root, "--val", "0.3", "--seed", "6")
    assert set(opened(root, "val").files) != chosen
    run(tmp_path, "split", root, "--val", "0.3", "--seed", "5")
    assert set(opened(root, "val").files) == chosen
    done = here(tmp_path, "data", "split", root, "--val", "1")
    assert done.returncode == 2 and "1 leaves a split without images" in done.stderr
    done = here(tmp_path, "data", "split", root, "--seed=-1")
    assert done.returncode == 2 and "argument --seed: -1 is not a whole number of 0 or more" in done.stderr
    said, _ = run(tmp_path, "convert", root, tmp_path / "converted", "--to", "coco")
    assert said["images"] == {"train": 14, "val": 6}
    done = here(tmp_path, "data", "split", tmp_path / "converted")
    assert done.returncode == 2 and "it has a validation split already; remove it" in done.stderr


def test_merge_joins_classes_by_name(tmp_path):
    first = yolo(tmp_path / "a", ["cat", "dog"], lambda k: [0, 1])
    second = yolo(tmp_path / "b", ["bird", "cat"], lambda k: [0, 1], count=10)
    third = write(tmp_path / "c", {"val/0.jpg": None, "val/0.xml": voc(("dog", 1, 1, 10, 10))})
    said, _ = run(tmp_path, "merge", first, second, third, tmp_path / "all")
    assert sum(said["images"].values()) == 31 and said["format"] == "coco"
    data = DataSet(recognize(tmp_path / "all"), "error")
    train, val = data.open("train"), data.open("val")
    assert train.classes == ["cat", "dog", "bird"] == val.classes
    assert (train.label_counts() + val.label_counts()).tolist() == [30, 21, 10]
    assert len({train.name(i) for i in range(len(train))} | {val.name(i) for i in range(len(val))}) == 31
    assert all(train.header_size(i) == (60, 40) for i in range(len(train)))


def test_merge_reports_which_classes_of_a_source_it_joins(tmp_path):
    """Uses an export whose first category is the project, with the name of a class."""

    def source(name, *classes):
        content = coco({1: f"{name}.jpg"}, [(1, k, k, 1, 9, 9) for k in range(1, len(classes) + 1)], classes)
        empty = coco({}, [], classes)
        return write(tmp_path / name, {f"train/{name}.jpg": None, "train/a.json": content, "val/a.json": empty})

    twice, other = source("twice", "cat", "dog", "cat"), source("other", "cat")
    said, text = run(tmp_path, "merge", twice, other, tmp_path / "all")
    assert said["problems"] == [f"{twice}: the 2 classes named cat are one class"] and said["problems"][0] in text
    joined = opened(tmp_path / "all")
    assert dict(zip(joined.classes, joined.label_counts().tolist())) == {"cat": 3, "dog": 1}
    said, _ = run(tmp_path, "merge", twice, source("same", "cat", "dog", "cat"), tmp_path / "equal")
    assert said["problems"] == [] and opened(tmp_path / "equal").label_counts().tolist() == [2, 2, 2]


def test_subset(tmp_path):
    root = yolo(tmp_path / "data", ["cat", "dog", "bird"], lambda k: [0, 1] if k < 5 else [0])
    said, _ = run(tmp_path, "subset", root, tmp_path / "dogs", "--classes", "dog")
    assert said["format"] == "yolo" and sum(said["objects"].values()) == sum(said["images"].values()) == 5
    assert opened(tmp_path / "dogs").classes == ["dog"]
    said, text = run(tmp_path, "subset", root, tmp_path / "large", "--min-size", "20")
    counts = ((said["images"][split], said["objects"][split]) for split in ("train", "val"))
    assert "{} images of train with {} objects, {} images of val with {} objects in".format(*sum(counts, ())) in text
    assert sum(said["images"].values()) == 20 and sum(said["objects"].values()) == 10 + 2  # odd k: 30 × 20 pixels
    said, _ = run(tmp_path, "subset", root, tmp_path / "few", "--count", "3")
    assert said["images"] == {"train": 3, "val": 3}
    again, _ = run(tmp_path, "subset", root, tmp_path / "again", "--count", "3")
    for split in ("train", "val"):
        assert set(opened(tmp_path / "few", split).files) == set(opened(tmp_path / "again", split).files)
    done = here(tmp_path, "data", "subset", root, tmp_path / "x", "--classes", "dgo")
    assert done.returncode == 2 and "There is no class 'dgo': did you mean dog?" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_sample_of_images_with_names_that_are_not_utf8():
    images = [{"id": number, "file_name": f"{number}\udce9.jpg"} for number in range(5)]
    sample = sample_images({"images": images, "annotations": [{"image_id": number} for number in range(5)]}, 2)
    assert len(sample["images"]) == len(sample["annotations"]) == 2


@pytest.mark.parametrize("size", ["nan", "-1", "inf"])
def test_subset_refuses_a_minimum_size_that_no_object_has(tmp_path, size):
    done = here(tmp_path, "data", "subset", tmp_path, tmp_path / "new", f"--min-size={size}")
    assert done.returncode == 2 and f"argument --min-size: {size} is not a number" in done.stderr


def test_show(tmp_path):
    root = write(tmp_path / "data", {f"{k}.png": np_png() for k in range(6)})
    for k in range(6):
        (root / f"{k}.txt").write_text("0 .25 .2 .5 .4 .5 .4 .25\n0 0.75 0.5 0.25 0.5\n")
    said, _ = run(tmp_path, "show", root, "--count", "4", "--out", tmp_path / "page.png")
    assert len(said["images"]) == len(set(said["images"])) == 4 and said["format"] == "yolo"
    page = cv2.imread(str(tmp_path / "page.png"))
    assert page.shape[1] == 4 * 404 + 4 or page.shape[1] == 4 * 324 + 4  # four images of 320 or 400 pixels and gaps
    assert len(np.unique(page.reshape(-1, 3), axis=0)) > 3  # the images are black: other colors are drawings


def test_show_refuses_an_output_that_is_not_an_image(tmp_path):
    done = here(tmp_path, "data", "show", tmp_path / "missing", "--out", tmp_path / "page.pdf")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{tmp_path / 'page.pdf'} cannot be written (.pdf is not an image format that can be written)" in done.stderr


@pytest.mark.parametrize("words", [("split",), ("check", "--no-near-duplicates")])
def test_control_characters_of_class_names_are_escaped(words, tmp_path):
    root = yolo(tmp_path / "data", [], lambda k: [0], count=4)
    (root / "data.yaml").write_text('names: ["a\\nb"]')
    done = here(tmp_path, "data", words[0], root, *words[1:])
    assert done.returncode == 0 and re.search(r"^ *a\\nb\b", done.stdout, re.MULTILINE), done.stdout


def test_only_resdet_reports_images_that_cannot_be_decoded(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    content = coco({1: "a.tif", 2: "b.jpg"}, [(1, 1, 1, 1, 9, 9), (2, 1, 1, 1, 9, 9)])
    root = write(tmp_path / "data", {"b.jpg": None, "train.json": content, "val.json": content})
    cv2.imwrite(str(root / "a.tif"), np.ones((40, 60), np.float32))
    done = process(tmp_path, "data", "show", root)
    assert done.returncode == 0 and "a.tif is not an image that OpenCV can decode" in done.stdout
    assert not re.search("WARN|ERROR", done.stderr)


def test_show_leaves_out_images_that_cannot_be_read(tmp_path):
    names = {k: f"{k}.png" for k in range(1, 6)}
    images = {"train/2.png": np_png()[:99], **{f"train/{k}.png": np_png() for k in (3, 4, 5)}}
    content = coco(names, [(k, 1, 1, 1, 9, 9) for k in names], size=(400, 300))
    root = write(tmp_path / "data", {**images, "train/a.json": content, "val/a.json": coco({}, [])})
    said, text = run(tmp_path, "show", root, "--out", tmp_path / "page.png")
    assert said["images"] == [str(root / "train" / f"{k}.png") for k in (3, 4, 5)] and len(said["left_out"]) == 2
    assert f"left out 2 images that cannot be read, the first: {root / 'train' / '1.png'}: cannot read the file" in text
    for name in images:
        (root / name).unlink()
    picture(root / "train" / "unlisted.png")
    done = here(tmp_path, "data", "show", root)
    assert done.returncode == 2 and f"{root} has no image that can be drawn: {root / 'train' / '1.png'}" in done.stderr


def np_png():
    return cv2.imencode(".png", np.zeros((300, 400, 3), np.uint8))[1].tobytes()


def test_commands_explain_errors(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for words in (["split", root], ["show", root], ["convert", root, tmp_path / "x", "--to", "coco"]):
        done = here(tmp_path, "data", *words)
        assert done.returncode == 2 and "has no images: give the folder" in done.stderr
        assert "Traceback" not in done.stderr


def test_summaries_count_one_in_the_singular(tmp_path):
    content = coco({1: "a.png"}, [(1, 1, 1, 1, 9, 9)], ("cat",))
    content["annotations"][0]["segmentation"] = [[1, 1, 10, 1, 10, 10, 1, 10]]
    root = write(
        tmp_path / "data", {"train/a.png": None, "train/a.json": content, "val/b.json": coco({}, [], ("cat",))}
    )
    _, text = run(tmp_path, "convert", root, tmp_path / "voc", "--to", "voc")
    assert "\n1 image of train with 1 object, 0 images of val with 0 objects in" in text
    assert "\nvoc cannot store masks: lost 1\n" in text
    _, text = run(tmp_path, "show", root)
    assert "\n1 image in sheet.png\n" in text
    _, text = run(tmp_path, "shard", root, tmp_path / "shards")
    assert text.splitlines()[1].startswith("1 image of train (shards: 1), 0 images of val")


@pytest.mark.parametrize("words", [["convert", "--to=coco"], ["merge"], ["subset"], ["shard"], ["check", "--fix"]])
def test_a_target_inside_a_source_is_refused(tmp_path, words):
    root = yolo(tmp_path / "data", ["cat"], lambda k: [0], count=2)
    (tmp_path / "link").symlink_to(root)
    action, *more = words
    before = sorted(tmp_path.rglob("*"))
    for target in (root / "in" / "new", tmp_path / "link" / "new"):
        done = here(tmp_path, "data", action, root, *more, target)
        assert done.returncode == 2 and f"{target} is inside {root}, which would hold both data sets" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("splits", [["train", "valid"], ["train"]])
def test_shard_reports_the_faults_of_the_source(tmp_path, splits):
    faulty = coco({k: f"{k}.jpg" for k in range(1, 6)}, [(k, 1, 1, 1, 9, 9 * (k > 1)) for k in range(1, 6)])
    files = {f"{split}/{k}.jpg": None for split in splits for k in range(1, 6)}
    root = write(tmp_path / "data", files | {f"{split}/a.json": faulty for split in splits})
    said, text = run(tmp_path, "shard", root, tmp_path / "shards")
    assert said["left_out"] == [] and len(said["problems"]) == len(splits)
    for sentence in said["problems"]:
        assert "left out 1 annotation with a box without area: 1" in sentence and sentence in text.splitlines()


def test_a_detector_is_trained_on_a_yolo_folder(tmp_path):
    """Trains on polygons in YOLO's format without a validation split, and evaluates the checkpoint."""
    scenes = runs.scenes(tmp_path / "scenes")
    run(tmp_path, "convert", scenes, tmp_path / "yolo", "--to", "yolo")
    root = tmp_path / "yolo"
    for kind in ("images", "labels"):
        for file in (root / kind / "val").iterdir():
            file.rename(root / kind / "train" / f"v{file.name}")
    names = (root / "data.yaml").read_text().splitlines()
    (root / "data.yaml").write_text("\n".join(line for line in names if not line.startswith("val")))
    net = ["model.backbone.name=resnet18", "model.backbone.norm=bn", "model.pretrained=null", "model.freeze_stages=0"]
    words = ["--config", "custom.yaml", *runs.SMALL, *net, f"data.root={root}", "data.val_share=0.3"]
    done = runs.train(tmp_path / "run", *words)
    assert f"{root} is in the format yolo, with train (data.yaml, 18 label files)" in done.stderr
    count = re.search(r"has no validation split: (\d+) of its 18 images are for validation", done.stderr)
    assert count and 4 <= int(count[1]) <= 7
    (line,) = runs.metrics(tmp_path / "run", "val")
    assert {"AP", "mask_AP"} <= set(line)
    done = runs.here("evaluate", "--weights", tmp_path / "run" / "best.pth", "--json", tmp_path / "ap.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "ap.json").read_text())["bbox"]["AP"] == pytest.approx(line["AP"], abs=0.02)
    assert objects(opened(root, "val", val_share=0.3))
