"""Tests the localization commands end to end: generated data in ILSVRC's layout, RPN, R-CNN, output files."""

import json
import re
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat
from tasks import runs
from torchvision.ops import box_iou

import resdet
from resdet import config
from resdet.localization import loc_error
from resdet.localization.data import shape_loc
from resdet.localization.data.ilsvrc_loc import open_ilsvrc_loc

LENGTH = ["train.length=2", "train.evaluate_every=2", "train.checkpoint_every=2", "train.log_every=1"]
SMALL = [
    "data.name=ilsvrc_loc",
    "data.size=32",
    "data.short=40",
    "data.augment.short=[40,48]",
    "data.workers=0",
    "model.backbone=cifar_resnet8",
    *LENGTH,
    "train.batch=8",
    "train.precision=fp32",
    "schedule.warmup=0",
    "eval.scales=[40,56]",
    "eval.candidates=60",
    "eval.proposals=12",
    "eval.batch=8",
]
RPN = ["--config", "shapes_loc_r18.yaml", *SMALL, "model.rpn={sizes: [12, 24], channels: 8}"]
RCNN = ["--config", "shapes_loc_rcnn_r18.yaml", *SMALL, "model.context=4"]


@pytest.fixture(scope="module")
def chain(module_folder):
    """Makes data and trains an RPN, an R-CNN and a classifier for one or two steps each."""
    folder = module_folder("localization")
    data = folder / "data"
    done = runs.here("data", "make", "shape_loc", data, "--train", 24, "--val", 10, "--size", 64)
    assert done.returncode == 0 and f"data.root={data}" in done.stdout, done.stderr
    rpn = runs.train(folder / "rpn", *RPN, f"data.root={data}")
    rcnn = runs.train(folder / "rcnn", *RCNN, f"data.root={data}", f"model.proposer={folder / 'rpn/best.pth'}")
    words = ["data.train_images=16", "data.val_images=8", "data.size=32", "data.short=36", "data.augment.short=[36,48]"]
    words += ["data.workers=0", "train.batch=8", "train.unit=steps", "train.length=1", "train.precision=fp32"]
    runs.train(folder / "classifier", "--config", "shapes_r18.yaml", *words, "schedule.warmup=0")
    return SimpleNamespace(folder=folder, data=data, rpn=rpn, rcnn=rcnn)


def judged(done) -> dict[str, float]:
    assert done.returncode == 0, done.stderr
    return {name: float(value) / 100 for name, value in re.findall(r"(\w+) ([0-9.]+) %", done.stdout)}


def test_training_output(chain):
    assert "skipped 3 of 24 images, without a box" in chain.rpn.stderr
    assert "validation at step 2: loss" in chain.rpn.stderr and "rpn_class" in chain.rpn.stderr
    assert chain.rpn.stdout.startswith("best at step 2: loss ") and "  loc_error " in chain.rpn.stdout
    assert "computing proposals for 21 of 21 training images in" in chain.rcnn.stderr
    for run in ("rpn", "rcnn"):
        for line in runs.metrics(chain.folder / run, "train"):
            assert all(np.isfinite(value) for value in line.values())


@pytest.mark.parametrize("run, names", [("rpn", {"rpn_class", "rpn_box"}), ("rcnn", {"class", "box"})])
def test_validation_losses(chain, run, names):
    """Checks the names of the losses and compares their values with `--eval-only` on the same weights."""
    (logged,) = runs.metrics(chain.folder / run, "val")
    assert names <= runs.metrics(chain.folder / run, "train")[0].keys()
    assert logged.keys() == names | {"loss", "loc_error", "step"}
    assert logged["loss"] == pytest.approx(sum(logged[name] for name in names), rel=1e-4)
    settings = {"rpn": RPN, "rcnn": [*RCNN, f"model.proposer={chain.folder / 'rpn/best.pth'}"]}[run]
    words = ["train", *settings, f"data.root={chain.data}", "--init", chain.folder / run / "best.pth", "--eval-only"]
    for more in ([], ["eval.losses=false"]):
        done = runs.here(*words, *more)
        assert done.returncode == 0, done.stderr
        found = dict(zip(*[iter(done.stdout.split())] * 2))
        assert found.keys() == ({"loc_error"} if more else logged.keys() - {"step"})
        for name, value in found.items():
            assert float(value) == pytest.approx(logged[name], abs=1e-3), name


@pytest.mark.parametrize("run", ["rpn", "rcnn"])
def test_results_and_pictures_of_a_run(chain, run):
    """Recomputes loc_error from results.json by torchvision's box_iou; checks the size of each drawn image."""
    source, folder = open_ilsvrc_loc(chain.data, "val"), chain.folder / run
    (logged,) = runs.metrics(folder, "val")
    results = json.loads((folder / "results.json").read_text())
    assert len(results) == len(source) == len(list((folder / "pictures").iterdir())) == 10
    wrong = 0
    for i, entry in enumerate(results):
        width, height = source.image(i).size
        assert (entry["image"], entry["width"], entry["height"]) == (source.name(i), width, height)
        (found,) = entry["detections"]
        assert found["label"] == source.labels[i] and found["name"] == source.classes[found["label"]]
        assert 0 <= found["score"] <= 1
        wrong += box_iou(torch.tensor([found["box"]]), torch.from_numpy(source.boxes(i))).max().item() < 0.5
        (picture,) = (folder / "pictures").glob(f"{i}_*.jpg")
        drawn_height, drawn_width, _ = cv2.imread(str(picture)).shape  # enlarged by an integer factor
        assert (drawn_height % height, drawn_width % width, drawn_height // height) == (0, 0, drawn_width // width)
    assert logged["loc_error"] == pytest.approx(wrong / 10, abs=1e-5)
    for name in ("results", "pictures"):
        assert f"{name + ':':11} {folder / name}" in getattr(chain, run).stdout


@pytest.mark.parametrize("run", ["rpn", "rcnn"])
def test_predict_with_a_classifier(chain, run, tmp_path):
    """Checks that each row holds the classifier's top-5 classes and scores, and the localizer's box for each class."""
    model, classifier = (resdet.load(chain.folder / name / "best.pth") for name in (run, "classifier"))
    images = sorted((chain.data / "ILSVRC/Data/CLS-LOC/val").iterdir())[:3]
    words = ["predict", "--weights", chain.folder / run / "best.pth", "eval.testing=dense", *images[:1]]
    words += ["--mode", "exact", "--json", tmp_path / "rows.json", "--draw", tmp_path / "drawn"]
    done = runs.here(*words, "--classifier", chain.folder / "classifier/best.pth", *images[1:])
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["image"] for row in rows] == list(map(str, images)) and len(list((tmp_path / "drawn").iterdir())) == 3
    assert done.stdout.count("5 detections in ") == 3
    named = classifier.predict(images)
    model.locating.testing = "dense"
    for row, expected, places in zip(rows, named, model.predict(images, [found.labels for found in named])):
        found = row["detections"]
        assert [entry["name"] for entry in found] == expected.names
        assert [entry["label"] for entry in found] == expected.labels.tolist()
        np.testing.assert_allclose([entry["score"] for entry in found], expected.scores, rtol=1e-5)
        np.testing.assert_allclose([entry["box"] for entry in found], places.boxes, atol=0.01)


@pytest.mark.parametrize("run", ["rpn", "rcnn"])
def test_weights_of_classes_in_another_order_are_not_evaluated(chain, tmp_path, run):
    """Reverses the classes of a checkpoint; --init, which may train on other classes, reports what it keeps."""
    content = runs.checkpoint(chain.folder / run / "best.pth")
    content["classes"].reverse()
    torch.save(content, tmp_path / "other.pth")
    settings = {"rpn": RPN, "rcnn": [*RCNN, f"model.proposer={chain.folder / 'rpn/best.pth'}"]}[run]
    words = [*settings, f"data.root={chain.data}", "--init", tmp_path / "other.pth"]
    refused = runs.sentence(runs.here("train", *words, "--eval-only"))
    assert f"Class 0 is {shape_loc.SYNSETS[0]} in the data and {shape_loc.SYNSETS[-1]} in the model" in refused
    done = runs.train(tmp_path / "run", *words)
    assert "class-dependent layers keep its weights and their order" in done.stderr


def test_a_classifier_is_not_evaluated_as_a_localizer(chain):
    words = [*RPN, f"data.root={chain.data}", "--init", chain.folder / "classifier/best.pth", "--eval-only"]
    assert "has no heads of a localizer" in runs.sentence(runs.here("train", *words))


def test_predict_top_and_score(chain, tmp_path):
    """Checks --top 2 with --score below both scores and between them, on ensembles of equal models."""
    weights, classifier = chain.folder / "rpn/best.pth", chain.folder / "classifier/best.pth"
    image = sorted((chain.data / "ILSVRC/Data/CLS-LOC/val").iterdir())[0]
    first, second = resdet.load(classifier).predict([image], top=2)[0].scores.tolist()
    words = ["predict", "--weights", weights, weights, "--classifier", classifier, classifier, image, "--top", 2]
    words += ["--mode", "exact"]
    for limit, count in ((second / 2, 2), ((first + second) / 2, 1)):
        done = runs.here(*words, "--score", limit, "--json", tmp_path / "rows.json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads((tmp_path / "rows.json").read_text())[0]["detections"]) == count


def test_evaluate_reproduces_the_metric_of_the_run(chain, tmp_path):
    for run in ("rpn", "rcnn"):
        (logged,) = runs.metrics(chain.folder / run, "val")
        done = runs.here("evaluate", "--weights", chain.folder / run / "best.pth", "--json", tmp_path / "f.json")
        assert judged(done)["loc_error"] == pytest.approx(logged["loc_error"], abs=1e-4)
        assert json.loads((tmp_path / "f.json").read_text())["loc_error"] == pytest.approx(
            logged["loc_error"], rel=1e-5
        )


def test_evaluate_with_predicted_classes(chain, tmp_path):
    """Compares top5_error with the classifier's predictions; top5_loc_error must not be smaller."""
    classifier, weights = chain.folder / "classifier/best.pth", chain.folder / "rpn/best.pth"
    words = ["eval.testing=dense", "--json", tmp_path / "f.json"]
    figures = judged(runs.here("evaluate", "--weights", weights, "--classifier", classifier, *words))
    assert figures.keys() == {"loc_error", "top5_loc_error", "top5_error"}
    assert figures["top5_loc_error"] >= figures["top5_error"]

    model, source = resdet.load(classifier), open_ilsvrc_loc(chain.data, "val")
    images = [source.image(i) for i in range(len(source))]
    best = [set(found.labels.tolist()) for found in model.predict(images, top=5)]
    missed = np.mean([label not in own for label, own in zip(source.labels.tolist(), best)])
    assert figures["top5_error"] == pytest.approx(missed, abs=1e-3)


def test_an_ensemble_of_equal_rcnns_equals_one(chain):
    weights = chain.folder / "rcnn/best.pth"
    one, two = (judged(runs.here("evaluate", "--weights", *[weights] * count)) for count in (1, 2))
    assert one == two


def test_proposals_are_computed_once(chain, tmp_path):
    again = runs.train(
        tmp_path / "run", *RCNN, f"data.root={chain.data}", f"model.proposer={chain.folder / 'rpn/best.pth'}"
    )
    assert "computing proposals" not in again.stderr
    first, second = (runs.metrics(folder, "train") for folder in (chain.folder / "rcnn", tmp_path / "run"))
    for a, b in zip(first, second):
        assert a["class"] == pytest.approx(b["class"]) and a["box"] == pytest.approx(b["box"])


def test_model_proposer_replaces_the_rpn_of_the_checkpoint(chain, tmp_path):
    runs.train(tmp_path / "rpn", *RPN, f"data.root={chain.data}", "train.seed=1")
    words = [f"data.root={chain.data}", f"model.proposer={tmp_path / 'rpn/best.pth'}"]
    runs.train(tmp_path / "rcnn", *RCNN, *words, "--init", chain.folder / "rcnn/best.pth", "optim.lr=1e-30")
    named, found, given = (
        runs.checkpoint(path)["model"]
        for path in (tmp_path / "rpn/best.pth", tmp_path / "rcnn/best.pth", chain.folder / "rcnn/best.pth")
    )
    inside = {name: tensor for name, tensor in found.items() if name.startswith("proposer.")}
    assert inside and all(torch.equal(tensor, named[name.partition(".")[2]]) for name, tensor in inside.items())
    assert not torch.equal(inside["proposer.rpn.conv.weight"], given["proposer.rpn.conv.weight"])
    assert torch.equal(found["scores.weight"], given["scores.weight"])


def test_a_resumed_run_equals_an_uninterrupted_run(chain, tmp_path):
    """Compares the weights of a run of one step, resumed for a second step, with those of a run of two steps."""
    words = [*RPN, f"data.root={chain.data}", "train.checkpoint_every=1", "schedule.name=constant"]
    runs.train(tmp_path / "whole", *words)
    runs.train(tmp_path / "cut", *words, "train.length=1", "train.evaluate_every=1")
    runs.train(tmp_path / "cut", *words, "--resume")
    whole, cut = (runs.checkpoint(tmp_path / name / "last.pth")["model"] for name in ("whole", "cut"))
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, msg=name)


def test_pretrained_classifier_and_exact_statistics(chain, tmp_path):
    words = [
        "model.backbone=resnet18",
        "train.exact_statistics=16",
        f"model.pretrained={chain.folder}/classifier/best.pth",
    ]
    done = runs.train(
        tmp_path / "run", *RPN, f"data.root={chain.data}", *words, "optim.lr=1e-30", "optim.weight_decay=0"
    )
    assert "(resdet layout)" in done.stderr
    given, found = (
        runs.checkpoint(path)["model"] for path in (f"{chain.folder}/classifier/best.pth", tmp_path / "run/best.pth")
    )
    assert torch.equal(found["backbone.conv5_x.1.conv2.conv.weight"], given["backbone.conv5_x.1.conv2.conv.weight"])
    name = "backbone.conv5_x.1.conv2.norm.running_var"
    assert not torch.allclose(found[name], given[name], rtol=0.1)


def test_submission(chain, tmp_path):
    """Submits the validation images as test images; compares the metrics of the file with `resdet evaluate`."""
    root = shutil.copytree(chain.data, tmp_path / "data")
    kit = root / "ILSVRC2012_devkit_t12/data"
    kit.mkdir(parents=True)
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(float(i), synset, synset, 0.0) for i, synset in enumerate(shape_loc.SYNSETS[::-1], 1)]
    savemat(kit / "meta.mat", {"synsets": np.array(rows, fields).reshape(-1, 1)})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{10 - index}\n" for index in range(10)))
    shutil.copytree(root / "ILSVRC/Data/CLS-LOC/val", root / "ILSVRC/Data/CLS-LOC/test")

    words = ["--weights", chain.folder / "rpn/best.pth", f"data.root={root}"]
    words += ["--classifier", chain.folder / "classifier/best.pth"]
    done = runs.here("evaluate", *words, "--submission", tmp_path / "loc.txt")
    assert done.returncode == 0 and "loc.txt: 10 images" in done.stdout, done.stderr
    loc_error.check_localization(tmp_path / "loc.txt", 10, classes=10)
    figures = judged(runs.here("evaluate", *words))
    found = loc_error.evaluate_loc(root, tmp_path / "loc.txt")
    assert found["class_error"] == pytest.approx(figures["top5_error"], abs=1e-3)
    # Rounding to whole pixels moves a box side by up to half a pixel, which may change one of ten images.
    assert found["loc_error"] == pytest.approx(figures["top5_loc_error"], abs=0.11)


MISTAKES = {
    "--classifier is for localizers": ["evaluate", "--weights", "{classifier}", "--classifier", "{classifier}"],
    "is not a classifier with the localizer's 10 classes": ["evaluate", "--weights", "{rpn}", "--classifier", "{rpn}"],
    "add --classifier": ["evaluate", "--weights", "{rpn}", "--submission", "x.txt"],
    "needs the classes of an image: name a classifier by --classifier": [
        *["predict", "--weights", "{rpn}", "{data}/ILSVRC/Data/CLS-LOC/val"]
    ],
    "{rpn} is not a classifier with the localizer's": [
        *["predict", "--weights", "{rpn}", "{data}/ILSVRC/Data/CLS-LOC/val", "--classifier", "{rpn}"]
    ],
    "--classifier is only for localizers": [
        *["predict", "--weights", "{classifier}", "{data}/ILSVRC/Data/CLS-LOC/val", "--classifier", "{classifier}"]
    ],
    "cannot form an ensemble": ["predict", "--weights", "{rpn}", "{classifier}", "{data}/ILSVRC/Data/CLS-LOC/val"],
    "model.proposer is null": ["train", *RCNN, "data.root={data}", "model.proposer=null", "--out", "{out}"],
    "only supported for classification": [
        "train",
        "--config",
        "shapes_loc_r18.yaml",
        "schedule.warmup_until_error=0.8",
    ],
    "not a data set for the task localization": ["config", "--config", "shapes_loc_r18.yaml", "data=coco"],
    "not a data set for the task detection": ["config", "--config", "coco.yaml", "data=ilsvrc_loc"],
    "is localization and that of": ["evaluate", "--weights", "{rcnn}", "{rpn}"],
    "is classification and that of": ["evaluate", "--weights", "{rpn}", "{classifier}"],
}


@pytest.mark.parametrize("complaint", MISTAKES)
def test_user_errors_print_one_line(chain, tmp_path, complaint):
    paths = {name: chain.folder / name / "best.pth" for name in ("classifier", "rpn", "rcnn")}
    places = {"data": chain.data, "out": tmp_path / "run"}
    words = [word.format(**paths, **places) for word in MISTAKES[complaint]]
    assert complaint.format(**paths) in runs.sentence(runs.here(*words))


NAMES = [name for name in config.shipped() if "_loc" in name]


def test_shipped_configs():
    assert {"imagenet_loc_r101", "imagenet_loc_vgg16", "imagenet_loc_rcnn_r101", "shapes_loc_r18"} <= set(NAMES)
    for name in NAMES:
        text = config.find(name).read_text(encoding="utf-8")
        assert all(re.search(rf"^#   {part} +\S", text, re.MULTILINE) for part in ("command", "expected", "cost"))
    settings = config.load("imagenet_loc_r101")
    assert (settings.train.batch, settings.model.rpn.batch_per_image, settings.model.rpn.positive_fraction) == (
        256,
        8,
        0.5,
    )
    assert (settings.data.size, tuple(settings.data.augment.short)) == (224, (256, 480))
    settings = config.load("imagenet_loc_rcnn_r101")
    assert (settings.train.batch, settings.eval.proposals, settings.data.size) == (256, 200, 224)
