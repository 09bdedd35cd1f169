"""Tests the detection commands end to end: data formats, training, metrics, drawn images and errors."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from running import here
from tasks import runs

import resdet
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.tiles import TiledDetector

pytestmark = pytest.mark.usefixtures("narrow")

# Without batch statistics and with a learning rate near 0, training keeps the detections; a batch of 1 evaluates images
# without padding, like `predict`.
CONSTANT = [*runs.CONFIG, "model.backbone.norm=frozen", "model.neck.norm=null", "model.mask.norm=null", "optim.lr=1e-9"]
CONSTANT += ["eval.batch=1"]
KINDS = [("bbox", ""), ("segm", "mask_")]


@pytest.fixture(scope="module")
def first(module_folder):
    """Trains on a data set made by `resdet data make`, with paths relative to the folder of both."""
    folder = module_folder("detection")
    done = here(folder, "data", "make", "shape_scenes", "scenes", "--train", 12, "--val", 6, "--size", 64)
    assert done.returncode == 0 and "data.root=scenes" in done.stdout, done.stderr
    settings = [f"data.train_images={runs.TRAIN}", f"data.val_images={runs.VAL}", "data.size=64"]
    done = here(folder, "train", *CONSTANT, "data.root=scenes", *settings, "--out", "run")
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(scenes=folder / "scenes", run=folder / "run", done=done)


@pytest.fixture(scope="module")
def trained(first, module_folder):
    """Trains on a custom data set, whose objects are some of the detections of `first`.

    This keeps AP away from 0 and 1 without long training.
    """
    folder = module_folder("own")
    keys = own_data(first, folder / "data")
    done = runs.train(folder / "run", *CONSTANT, *keys, "--init", first.run / "best.pth")
    assert all(0.01 < best(folder / "run")[name] < 0.99 for name in ("AP", "mask_AP"))
    truth = folder / "data/val/objects.json"
    return SimpleNamespace(data=folder / "data", truth=truth, keys=keys, run=folder / "run", done=done)


def own_data(first, folder):
    """Writes the scenes with custom ids, class names and folders; returns the settings that name them."""
    model, keys = resdet.load(first.run / "best.pth"), []
    for split in ("train", "val"):
        content = json.loads((first.scenes / "annotations" / f"{split}.json").read_text())
        if split == "val":
            content["annotations"] = found_by(model, first.scenes / "val", content["images"])
        names = {entry["id"]: f"{'abcde'[place]} {entry['name']}" for place, entry in enumerate(content["categories"])}
        content["categories"] = [{"id": 900 + 7 * number, "name": name} for number, name in names.items()]
        for entry in content["images"]:
            entry["id"] += 10**9
        for entry in content["annotations"]:
            entry |= {"category_id": 900 + 7 * entry["category_id"], "image_id": entry["image_id"] + 10**9}
        (folder / split).mkdir(parents=True)
        (folder / split / "objects.json").write_text(json.dumps(content))
        shutil.copytree(first.scenes / split, folder / split / "pictures")
        keys += [f"data.{split}.images={split}/pictures", f"data.{split}.annotations={split}/objects.json"]
    return ["data.name=coco", f"data.root={folder}", *keys]


def found_by(model, folder, images):
    """Makes annotations of every other detection, with a slightly changed box; every tenth is a crowd."""
    annotations = []
    for image in images:
        (result,) = model.predict([folder / image["file_name"]])
        for entry in result.to_coco(image["id"])[::2]:
            x, y, width, height = (np.round(entry["bbox"]) + (1, 0, 0, 1)).tolist()
            inside = [x, y, min(width, image["width"] - x), min(height, image["height"] - y)]
            if min(inside[2:]) < 1:
                continue
            number = len(annotations) + 1
            extra = {"id": number, "bbox": inside, "area": inside[2] * inside[3], "iscrowd": int(number % 10 == 0)}
            annotations.append(entry | extra)
    return annotations


def best(run):
    """Returns the logged metrics of the best evaluation."""
    return max(runs.metrics(run, "val"), key=lambda line: line["AP"])


def agree(printed, expected):
    """Compares metrics up to the six digits stored in metrics.jsonl."""
    for name, value in expected.items():
        assert value > 0 and printed[name] == pytest.approx(value, rel=1e-5), name


def test_train_prints_metrics_and_output_files(first):
    """Checks that stdout names metrics, checkpoint, results and pictures, and that stderr shows the progress."""
    lines = first.done.stdout.splitlines()
    assert lines[0].startswith("best at step ") and " AP " in lines[0] and " mask_AP " in lines[0]
    files = ["best.pth", "results.json", "pictures", "metrics.jsonl (curves: tensorboard --logdir run)"]
    kinds = ["checkpoint:", "results:   ", "pictures:  ", "metrics:   "]
    assert lines[1:] == [f"{kind} run/{file}" for kind, file in zip(kinds, files)]
    assert {path.stem for path in (first.run / "pictures").iterdir()} == {f"{n}_{n:06d}" for n in range(1, 7)}
    assert "validation at step 2" in first.done.stderr
    assert "step 2/2, 0:00:00 and 1 evaluation left  rpn_objectness" in first.done.stderr


@pytest.mark.parametrize("kind, prefix", KINDS)
def test_metrics_equal_pycocotools(trained, kind, prefix):
    expected = runs.pycocotools_figures(trained.truth, trained.run / "results.json", kind)
    figures = best(trained.run)
    agree(figures, {f"{prefix}{name}": value for name, value in expected.items()})
    shown = dict(re.findall(r"(\w+) ([0-9.]+)(?:  |$)", trained.done.stdout.splitlines()[0].partition(": ")[2]))
    assert float(shown[f"{prefix}AP"]) == pytest.approx(figures[f"{prefix}AP"], abs=5e-5)


def test_validation_losses_are_logged(trained):
    names = {"rpn_objectness", "rpn_box", "class", "box", "mask"}
    for kind in ("train", "val"):
        for line in runs.metrics(trained.run, kind):
            assert names <= line.keys() and all(np.isfinite(line[name]) for name in names)
    line = best(trained.run)
    assert line["loss"] == pytest.approx(sum(line[name] for name in names), rel=1e-4)


def test_classes_and_ids_are_those_of_the_annotations(trained):
    """Compares ids and class names of the model and of the results with those of the annotation file."""
    content = json.loads(trained.truth.read_text())
    results = json.loads((trained.run / "results.json").read_text())
    assert {entry["image_id"] for entry in results} <= {entry["id"] for entry in content["images"]}
    assert {entry["category_id"] for entry in results} <= {entry["id"] for entry in content["categories"]}
    model = resdet.load(trained.run / "best.pth")
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    assert dict(zip(model.category_ids, model.classes)) == names
    (result,) = model.predict([trained.data / "val/pictures/000001.jpg"])
    assert len(result) and [names[number] for number in result.category_ids.tolist()] == result.names
    stored = [entry for entry in results if entry["image_id"] == 10**9 + 1]
    assert [entry["category_id"] for entry in stored] == result.category_ids.tolist()


def as_voc(trained, folder):
    """Writes the images and boxes of `trained` in PASCAL VOC's format, with an image set for each split."""
    for name in ("Pictures", "Objects", "Lists"):
        (folder / name).mkdir(parents=True)
    for split in ("train", "val"):
        content = json.loads((trained.data / split / "objects.json").read_text())
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        for image in content["images"]:
            stem = f"{split}-{image['id']}"
            shutil.copy(trained.data / split / "pictures" / image["file_name"], folder / "Pictures" / f"{stem}.jpg")
            things = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
            (folder / "Objects" / f"{stem}.xml").write_text(xml(image, things, names, f"{stem}.jpg"))
        stems = [f"{split}-{image['id']}" for image in content["images"]]
        (folder / "Lists" / f"{split}.txt").write_text("\n".join(stems) + "\n")
    keys = [f"{{images: Pictures, annotations: Objects, image_set: Lists/{split}.txt}}" for split in ("train", "val")]
    return ["data.name=voc", f"data.root={folder}", f"data.train={keys[0]}", f"data.val={keys[1]}"]


def xml(image, things, names, file):
    size = f"<size><width>{image['width']}</width><height>{image['height']}</height><depth>3</depth></size>"
    objects = ""
    for thing in things:
        x, y, width, height = thing["bbox"]  # VOC stores the first and the last pixel, 1-based
        corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
        box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
        name, difficult = names[thing["category_id"]], thing["iscrowd"]
        objects += f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"
    return f"<annotation><filename>{file}</filename>{size}{objects}</annotation>"


def voc_truth(trained):
    """Renumbers the COCO file from 1, like VOC data; crowds represent difficult objects, which COCO ignores too."""
    content = json.loads(trained.truth.read_text())
    numbers = {entry["id"]: number for number, entry in enumerate(content["categories"], 1)}
    for entry in content["images"]:
        entry["id"] -= 10**9
    for entry in content["annotations"]:
        category, image = numbers[entry["category_id"]], entry["image_id"] - 10**9
        entry |= {"category_id": category, "image_id": image}
    return content | {"categories": [{"id": number, "name": str(number)} for number in numbers.values()]}


def test_voc_format(trained, tmp_path):
    keys = as_voc(trained, tmp_path / "data")
    runs.train(tmp_path / "run", *CONSTANT, *keys, "model.mask=null", "--init", without_masks(trained, tmp_path))
    names = [entry["name"] for entry in json.loads(trained.truth.read_text())["categories"]]
    assert resdet.load(tmp_path / "run/best.pth").classes == names
    agree(best(tmp_path / "run"), runs.pycocotools_figures(voc_truth(trained), tmp_path / "run/results.json"))

    done = runs.here("evaluate", "--weights", tmp_path / "run/best.pth", "eval.metric=voc07", "--per-class")
    assert done.returncode == 0, done.stderr
    assert "| mAP |" in done.stdout and "| a circle |" in done.stdout


def without_masks(trained, folder):
    content = runs.checkpoint(trained.run / "best.pth")
    model = {name: tensor for name, tensor in content["model"].items() if "mask_head" not in name}
    torch.save(content | {"model": model}, folder / "boxes.pth")
    return folder / "boxes.pth"


def test_evaluate_reproduces_the_metrics_of_the_run(trained, tmp_path):
    weights, logged = trained.run / "best.pth", best(trained.run)
    done = runs.here(
        "evaluate", "--weights", weights, "--per-class", "--json", tmp_path / "f.json", "--save", tmp_path / "r.json"
    )
    assert done.returncode == 0, done.stderr
    saved, kept = (json.loads(path.read_text()) for path in (tmp_path / "r.json", trained.run / "results.json"))
    assert [entry["image_id"] for entry in saved] == [entry["image_id"] for entry in kept]
    np.testing.assert_allclose([e["bbox"] for e in saved], [e["bbox"] for e in kept], atol=1e-3)
    figures = json.loads((tmp_path / "f.json").read_text())
    for kind, prefix in KINDS:
        for name in ("AP", "AP50", "AP75", "APs", "AR100"):
            assert logged[f"{prefix}{name}"] == pytest.approx(figures[kind][name], rel=1e-5)
        assert figures[kind]["APl"] is None  # an image of 64 pixels has no large objects
    for name, value in figures["losses"].items():
        assert logged[name] == pytest.approx(value, rel=1e-5), name
    assert done.stdout.count("| d star |") == 2 and " n/a |" in done.stdout and "-1" not in done.stdout


def test_evaluate_an_ensemble_with_test_time_augmentation(trained, tmp_path):
    """Checks that an ensemble of a detector with itself has the AP of that detector, with all test-time options."""
    best, improved = trained.run / "best.pth", ["eval.refine=true", "eval.scales=[64,80]", "eval.flip=true"]
    found = {}
    for name, words in {"plain": [best], "alone": [best, *improved], "twice": [best, best, *improved]}.items():
        done = runs.here("evaluate", "--weights", *words, "--json", tmp_path / "f.json")
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((tmp_path / "f.json").read_text())
    assert found["twice"]["bbox"]["AP"] == pytest.approx(found["alone"]["bbox"]["AP"], abs=0.02)
    assert found["alone"]["bbox"]["AP"] != found["plain"]["bbox"]["AP"] and found["alone"]["segm"]["AP"] > 0
    assert found["plain"]["losses"] and not found["alone"]["losses"]


def test_evaluate_on_the_data_of_another_config(first, trained, tmp_path):
    """Takes the images from the config and the model from the weights; refuses data with other category ids."""
    other = ["--config", "custom.yaml", *trained.keys, "data.workers=0"]
    done = runs.here("evaluate", *other, "--weights", trained.run / "best.pth", "--json", tmp_path / "f.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["bbox"]["AP"] == pytest.approx(best(trained.run)["AP"], rel=1e-5)

    words = ["evaluate", *other, "--weights", first.run / "best.pth"]
    assert "choose the data it was trained for" in runs.sentence(runs.here(*words))


def test_train_eval_only(trained):
    done = runs.here("train", *CONSTANT, *trained.keys, "--init", trained.run / "best.pth", "--eval-only")
    assert done.returncode == 0, done.stderr
    assert f" AP {best(trained.run)['AP']:.4f} " in done.stdout


@pytest.mark.parametrize("kind, prefix", KINDS)
def test_evaluating_the_results_file_gives_the_metrics_of_the_run(trained, tmp_path, kind, prefix):
    words = ["--annotations", trained.truth, "--results", trained.run / "results.json"]
    done = runs.here("evaluate", *words, "--type", kind, "--json", tmp_path / "f.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    for name in ("AP", "AP50", "AP75", "APs", "AR100"):
        assert best(trained.run)[f"{prefix}{name}"] == pytest.approx(figures[name], rel=1e-5, abs=1e-12)


def test_predict_on_a_folder(trained, tmp_path):
    pictures = trained.data / "val/pictures"
    scores = sorted(entry["score"] for entry in json.loads((trained.run / "results.json").read_text()))
    least = scores[-4]  # keeps a few detections, on some of the images
    words = ["--weights", trained.run / "best.pth", "--score", least]
    done = runs.here("predict", *words, pictures, "--draw", tmp_path / "drawn", "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["image"] for row in rows] == [str(path) for path in sorted(pictures.iterdir())]
    content = json.loads(trained.truth.read_text())
    names = {entry["name"] for entry in content["categories"]}
    for row, image in zip(rows, content["images"]):
        assert f"{image['width']} x {image['height']} pixels" in done.stdout
        (file,) = (tmp_path / "drawn").glob(f"*{Path(image['file_name']).stem}.jpg")
        drawn, given = cv2.imread(str(file)), cv2.imread(str(pictures / image["file_name"]))
        given = cv2.resize(given, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)  # `--draw` enlarges small images
        assert drawn.shape == given.shape
        difference = np.abs(drawn.astype(int) - given).max()
        assert (difference > 60) == bool(row["detections"])  # without detections, only JPEG errors
        assert all(found["name"] in names and least < found["score"] <= 1 for found in row["detections"])
    assert 1 <= sum(len(row["detections"]) for row in rows) <= 4


def test_predict_with_an_ensemble(trained, tmp_path):
    """Gives images before the weights, after them and after other options, and settings anywhere."""
    best, pictures = trained.run / "best.pth", sorted((trained.data / "val/pictures").iterdir())[:3]
    json_file = ["--json", tmp_path / "found.json"]
    words = [pictures[0], "--weights", best, best, pictures[1], "eval.refine=true", *json_file, pictures[2]]
    done = runs.here("predict", *words, "eval.flip=true", "--mode", "exact")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text())
    assert sorted(row["image"] for row in rows) == [str(picture) for picture in pictures]
    settings = TTAConfig(refine=True, flip=True)
    expected = resdet.detection.EnsembleDetector([resdet.load(best)] * 2, settings).predict(
        [row["image"] for row in rows]
    )
    for row, result in zip(rows, expected, strict=True):
        runs.assert_detections(row["detections"], result.to_dict()["detections"])

    assert "No images to predict on" in runs.sentence(runs.here("predict", "--weights", best))
    (tmp_path / "list.txt").write_text("a.jpg")
    no_image = runs.sentence(runs.here("predict", "--weights", best, tmp_path / "list.txt"))
    assert f"{tmp_path / 'list.txt'} has no suffix of an image and counts as weights" in no_image
    assert "did you mean refine" in runs.sentence(runs.here("predict", "--weights", best, pictures[0], "eval.refin=1"))


def test_predict_and_evaluate_in_tiles(trained, tmp_path):
    best, picture = trained.run / "best.pth", sorted((trained.data / "val/pictures").iterdir())[0]
    file, words = tmp_path / "found.json", ["--weights", best, "--tile", 40, "--overlap", 0.25]
    done = runs.here("predict", picture, *words, "--mode", "exact", "--json", file)
    assert done.returncode == 0, done.stderr
    model = resdet.load(best)
    expected = TiledDetector(model, 40, 0.25, model.nms).predict(picture).to_dict()
    (row,) = json.loads(file.read_text())
    runs.assert_detections(row.pop("detections"), expected["detections"])
    assert expected.pop("detections") and row == expected
    done = runs.here("evaluate", *words, "--mode", "fast", "--no-compile", "--json", file)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(file.read_text())
    assert 0 <= metrics["bbox"]["AP"] <= 1 and metrics["losses"] == {}


def test_data_make_refuses_a_nonempty_folder(first):
    again = runs.here("data", "make", "shape_scenes", first.scenes)
    assert "not empty" in runs.sentence(again)


MISTAKES = {
    "nothing": ([], "give --weights"),
    "no results": (["--annotations", "VAL"], "--results"),
    "weights and results": (["--annotations", "VAL", "--results", "RESULTS", "--weights", "BEST"], "--weights"),
    "no such results": (["--annotations", "VAL", "--results", "none.json"], "none.json"),
    "detectors of other classes": (["--weights", "BEST", "FIRST"], "same categories"),
    "an IoU that is none": (["--weights", "BEST", "eval.voting_iou=5"], "eval.voting_iou"),
    "a submission": (["--weights", "BEST", "--submission", "x.txt"], "call it detections_test-dev2015"),
    "masks by VOC": (
        ["--annotations", "VAL", "--results", "RESULTS", "--type", "segm", "--protocol", "voc07"],
        "voc07",
    ),
    "the ground truth as output": (["--weights", "BEST", "--save", "VAL"], "objects.json is an input file"),
    "a key that is none": (["--weights", "BEST", "eval.scor=0.1"], "did you mean score"),
    "a classifier's config": (["--weights", "BEST", "--config", "shapes_resnet20.yaml"], "detect"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_invalid_option_combinations_are_refused(first, trained, mistake):
    files = {
        "FIRST": first.run / "best.pth",
        "VAL": trained.truth,
        "RESULTS": trained.run / "results.json",
        "BEST": trained.run / "best.pth",
    }
    words, expected = MISTAKES[mistake]
    assert expected in runs.sentence(runs.here("evaluate", *(files.get(word, word) for word in words)))


TRAINING_MISTAKES = {
    "no such root": (["data.root=elsewhere"], "elsewhere"),
    "class count": (["model.num_classes=9"], "model.num_classes"),
    "anchor levels": (["model.rpn.anchors.sizes=[[8]]"], "model.rpn.anchors.sizes"),
    "an impossible value": (["data.max_objects=0"], "data.max_objects"),
    "an unknown key": (["model.rpn.nmss=0.5"], "did you mean nms"),
}


@pytest.mark.parametrize("mistake", TRAINING_MISTAKES)
def test_training_errors_print_one_line(trained, tmp_path, mistake):
    words, expected = TRAINING_MISTAKES[mistake]
    done = runs.here("train", *CONSTANT, *trained.keys, *words, "--out", tmp_path / "run")
    assert expected in runs.sentence(done)
    assert not (tmp_path / "run/best.pth").exists()


def test_data_without_masks_are_refused_for_a_mask_model(trained, tmp_path):
    keys = as_voc(trained, tmp_path / "data")
    assert "model.mask=null" in runs.sentence(runs.here("train", *CONSTANT, *keys, "--out", tmp_path / "run"))


def test_validation_with_other_classes_is_refused(first, trained, tmp_path):
    val = [f"data.val.images={first.scenes}/val", f"data.val.annotations={first.scenes}/annotations/val.json"]
    done = runs.here("train", *CONSTANT, *trained.keys, *val, "--out", tmp_path / "run")
    assert "same categories" in runs.sentence(done)


def test_draw_is_refused_for_a_classifier(trained, tmp_path, tiny):
    words = [*tiny, "train.length=1", "data.train_images=8", "data.val_images=8"]
    runs.train(tmp_path / "run", *words)
    done = runs.here(
        "predict", "--weights", tmp_path / "run/best.pth", trained.data / "val/pictures", "--draw", tmp_path / "d"
    )
    assert "--draw" in runs.sentence(done)
