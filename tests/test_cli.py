"""Tests the `resdet` command end to end for classification, and its one-line errors with status 2."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
import torchvision
from running import here, run

from resdet.backbones import names
from resdet.cli import main

SMALL = [
    "model.backbone=resnet18",
    "data.size=32",
    "data.short=36",
    "data.augment.short=[36,48]",
    "data.workers=0",
    "train.batch=8",
    "train.unit=steps",
    "train.length=4",
    "train.evaluate_every=4",
    "train.checkpoint_every=4",
    "train.log_every=2",
    "train.precision=fp32",
    "schedule.warmup=0",
]


def sentence(done) -> str:
    """Returns the error line of a command that fails with status 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("resdet: ")]
    return line


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Generates a folder of images per class and a torchvision checkpoint of 1000 classes."""
    folder = tmp_path_factory.mktemp("images")
    done = here(folder, "data", "make", "shapes", "shapes", "--train", 20, "--val", 20, "--size", 48)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pth")
    return folder


@pytest.mark.parametrize("kind", ["shapes", "shape_scenes", "shape_vid", "shape_loc"])
@pytest.mark.parametrize(
    "option", ["--train=-1", "--train=0", "--val=0", "--size=0", "--size=-4", "--size=100000", "--seed=-1"]
)
def test_data_make_refuses_invalid_numbers(tmp_path, capsys, kind, option):
    with pytest.raises(SystemExit, match="2"):
        main(["data", "make", kind, str(tmp_path / "data"), option])
    name, value = option.split("=")
    assert f"argument {name}: {value} is not a whole number" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_status_and_streams_of_the_process(tmp_path):
    """Checks the exit status, stdout and stderr of a real process."""
    done = run(tmp_path, "config", "--config", "imagenet_r50.yaml")
    assert done.returncode == 0 and "stride_in: 1x1" in done.stdout and done.stderr == ""
    done = run(tmp_path, "config", "--config", "imagenet_r51.yaml")
    assert done.stdout == "" and "did you mean imagenet_r50" in sentence(done)


def test_train_evaluate_and_predict_on_an_image_folder(tmp_path, images, command):
    root = f"data.root={images / 'shapes'}"
    done = command("train", "--config", "folder.yaml", root, *SMALL, "--init", images / "resnet18.pth", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "fc.weight [1000, 512] for [10, 512]" in done.stderr
    assert "run/best.pth" in done.stdout

    done = command("evaluate", "--weights", "run/best.pth", "--per-class", "--json", "figures.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    logged = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert figures["images"] == 20 and figures["error"] == pytest.approx(logged["error"], abs=1e-6)
    assert figures["loss"] == pytest.approx(logged["loss"], rel=1e-4)
    assert "| heart | 2 |" in done.stdout

    for views in ("ten_crop", "dense"):
        done = command(
            "evaluate", "--weights", "run/best.pth", "run/best.pth", f"eval.views={views}", "eval.scales=[36,48]"
        )
        assert done.returncode == 0 and "20 images" in done.stdout, done.stderr

    done = command("predict", "--weights", "run/best.pth", images / "shapes/val/star", "--top", 3, "--json", "p.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "p.json").read_text())
    assert (
        len(rows) == 2 and len(rows[0]["names"]) == 3 and rows[0]["scores"] == sorted(rows[0]["scores"], reverse=True)
    )

    words = ["--init", "run/best.pth", "--eval-only", "--json", "judged.json"]
    done = command("train", "--config", "folder.yaml", root, *SMALL, *words)
    assert done.returncode == 0 and f"error {figures['error']:.4f}" in done.stdout
    assert json.loads((tmp_path / "judged.json").read_text())["error"] == pytest.approx(figures["error"], abs=1e-6)


def test_training_on_in_memory_images_and_evaluating_an_ensemble(tmp_path, command, tiny):
    for seed in (0, 1):
        done = command("train", *tiny, "train.length=10", f"train.seed={seed}", "--out", f"run{seed}")
        assert done.returncode == 0, done.stderr
    done = command("evaluate", "--weights", "run0/best.pth", "run1/best.pth")
    assert done.returncode == 0 and "32 images" in done.stdout, done.stderr
    done = command("evaluate", "--config", "shapes_resnet20", "data.val_images=16", "--weights", "run0/best.pth")
    assert "16 images" in done.stdout


def test_every_imagenet_option_runs(images, command):
    """Trains on generated images by the paper's config with per-pixel mean, policies, mixing, repeats and EMA."""
    options = ["data=shapes", "data.train_images=16", "data.val_images=8", "model.num_classes=10", *SMALL]
    everything = [
        "data.mean=per_pixel",
        "data.repeats=2",
        "data.augment.policy=rand",
        "data.augment.erasing=0.5",
        "data.augment.cutmix=1",
        "data.augment.mixup=0.2",
        "data.augment.albumentations=[{HueSaturationValue: {p: 0.5}}]",
        "model.label_smoothing=0.1",
        "train.exact_statistics=16",
        "train.ema=0.9",
        "optim.decay_norm_and_bias=false",
    ]
    done = command("train", "--config", "imagenet_r18.yaml", *options, *everything, "--out", "run")
    assert done.returncode == 0, done.stderr
    done = command("evaluate", "--weights", "run/best.pth", "eval.views=ten_crop")
    assert done.returncode == 0, done.stderr


def test_nets_and_config_commands(tmp_path, command, monkeypatch):
    shallow = [name for name in names() if not name.endswith(("44", "56", "101", "110", "152", "1202"))]
    monkeypatch.setattr("resdet.backbones.config.names", lambda: shallow)
    table = command("nets").stdout
    assert {line.split()[0] for line in table.splitlines()} >= {*shallow}
    row = next(line for line in table.splitlines() if line.startswith("resnet50") and " 1x1 " in line)
    assert "25,557,032" in row and "3.858 G" in row and "c5:32" in row
    assert "cifar_resnet26, …) are valid too; a config also accepts timm/<name>." in table
    assert command("nets", "resnet50", "vgg16", "--json", "nets.json").stdout.count("\n") == 4
    assert json.loads((tmp_path / "nets.json").read_text())[2]["parameters"] == 138357544  # as in torchvision
    shown = command("config", "--config", "imagenet_r50.yaml", "data.root=elsewhere", "optim.lr=0.2").stdout
    assert "root: elsewhere" in shown and "lr: 0.2" in shown and "stride_in: 1x1" in shown


MISTAKES = {
    "unknown key": (["config", "--config", "imagenet_r50", "optim.lrr=1"], "did you mean lr?"),
    "wrong type": (["config", "--config", "imagenet_r50", "optim.lr=fast"], "optim.lr=fast"),
    "impossible value": (["config", "--config", "imagenet_r50", "train.batch=0"], "train.batch"),
    "missing config": (["train", "--config", "imagenet_r51.yaml"], "did you mean imagenet_r50"),
    "missing data": (["train", "--config", "imagenet_r50.yaml"], "datasets/ILSVRC2012"),
    "missing CIFAR": (["train", "--config", "cifar10_resnet20.yaml"], "resdet data get cifar10"),
    "missing weights": (["evaluate", "--weights", "none.pth"], "none.pth"),
    "missing init": (
        ["train", "--config", "shapes_resnet20.yaml", "data.train_images=8", "data.val_images=8", "--init", "none.pth"],
        "none.pth",
    ),
    "missing init and data": (["train", "--config", "imagenet_r50.yaml", "--init", "none.pth"], "none.pth"),
    "nothing to judge": (["train", "--config", "shapes_resnet20.yaml", "--eval-only"], "--init"),
    "impossible crop": (["train", "--config", "shapes_r18.yaml", "data.augment.short=[10,20]"], "data.augment.short"),
    "class count": (["train", "--config", "shapes_r18.yaml", "model.num_classes=11"], "model.num_classes"),
    "unknown suite": (["bench", "everything"], "everything"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_user_errors_print_one_line(tmp_path, command, mistake):
    words, expected = MISTAKES[mistake]
    assert expected in sentence(command(*words))
    assert not list(tmp_path.glob("runs/*/*.pth"))


class Code:
    def __reduce__(self):
        return print, ("executed",)


def test_unusable_checkpoints_are_refused(tmp_path, images, command, tiny):
    command("train", *tiny, "train.length=5", "--out", "run")
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"model": Code()}))
    (tmp_path / "cut.pth").write_bytes((tmp_path / "run/best.pth").read_bytes()[:5000])

    root = f"data.root={images / 'shapes'}"
    another = sentence(command("train", "--config", "folder.yaml", root, *SMALL, "--init", "resnet34.pth"))
    assert "conv2_x.2" in another and "not in the model" in another
    (tmp_path / "x.jpg").touch()
    refused = command("predict", "--weights", "code.pth", "x.jpg")
    assert "code" in sentence(refused) and "executed" not in refused.stdout
    assert "cut.pth is damaged" in sentence(command("predict", "--weights", "cut.pth", "x.jpg"))
    assert "x.jpg" in sentence(command("predict", "--weights", "run/best.pth", "x.jpg"))


def test_damaged_images_stop_a_run_or_are_skipped(tmp_path, images, command):
    for split, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        path = tmp_path / "data" / split / name / "0.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((40, 50, 3), 90, np.uint8))
    (path.parent / "1.png").write_bytes(path.read_bytes()[:50])
    words = ["train", "--config", "folder.yaml", "data.root=data", *SMALL]
    assert "val/b/1.png is truncated" in sentence(command(*words, "data.on_bad_image=error", "--out", "one"))
    done = command(*words, "--out", "two")
    assert done.returncode == 0 and "val/b/1.png is truncated.\n" in done.stderr
    assert "skipped image 1: " in done.stderr and "skipped image 2" not in done.stderr
