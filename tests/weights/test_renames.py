"""Checks checkpoints with former names of modules, attributes and config keys; old/ holds three and their outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import narrow_resnets

import resdet
from resdet.detection.model import as_images
from resdet.weights.checkpoint_file import read
from resdet.weights.renames import current_names

OLD = Path(__file__).with_name("old")
OUTPUTS = json.loads((OLD / "outputs.json").read_text())
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
IMAGES = torch.from_numpy(PIXELS).permute(2, 0, 1)[None]


@pytest.fixture
def load():
    with narrow_resnets((8, 8, 16, 16)):
        yield lambda name: resdet.load(OLD / f"{name}.pth")


def close(name: str, **outputs: torch.Tensor) -> bool:
    return all(torch.allclose(value, torch.tensor(OUTPUTS[name][key]), atol=1e-4) for key, value in outputs.items())


@torch.no_grad()
def test_an_old_classifier_gives_the_same_outputs(load):
    model = load("classifier")
    assert close("classifier", logits=model(IMAGES[:, :, :32, :32]))
    assert model.experiment["eval"]["views"] == "center"


@torch.no_grad()
def test_an_old_detector_gives_the_same_outputs(load):
    model = load("detector")
    images = as_images(IMAGES)
    maps, boxes = model.maps(images), torch.tensor([[[4.0, 4, 40, 40], [20, 10, 60, 50]]])
    scores, _, deltas = model.roi_heads.classify(maps, boxes, images.sizes)
    masks = model.masks(maps, boxes, torch.tensor([[0, 2]]))[0, :, ::4, ::4]
    assert close("detector", scores=scores, deltas=deltas, masks=masks)
    config = model.experiment["model"]
    assert config["neck"]["width"] == 16 and config["rpn"]["batch_per_image"] == 64
    assert config["box"]["positive_fraction"] == 0.5 and model.input.min_size == 64


@torch.no_grad()
def test_an_old_localizer_gives_the_same_outputs(load):
    model = load("localizer")
    assert close("localizer", scores=model.candidates(IMAGES, torch.tensor([[1, 2]]))[0][0, :, :40])
    assert model.locating.testing == "center"


def test_a_run_resumes_from_an_old_checkpoint(command, tmp_path):
    """Resumes from a last.pth with the former names, also in the averaged weights."""
    words = ["train", "--config", "shapes_resnet20.yaml", "model.backbone=cifar_resnet8", "data.train_images=64"]
    words += ["data.val_images=32", "train.batch=8", "train.precision=fp32", "train.ema=0.9", "schedule.warmup=0"]
    words += ["train.unit=steps", "train.evaluate_every=4", "train.checkpoint_every=4", "--out", "run"]
    assert command(*words, "train.length=4").returncode == 0
    last = tmp_path / "run/last.pth"
    content = torch.load(last, weights_only=True)
    then = lambda state: {name.replace("normalize.", "normalise."): value for name, value in state.items()}
    content["model"], content["trainer"]["averaged"] = then(content["model"]), then(content["trainer"]["averaged"])
    torch.save(content, last)
    finished = command(*words, "train.length=8", "--resume")
    assert finished.returncode == 0, finished.stderr
    assert any(name.startswith("normalize.") for name in torch.load(last, weights_only=True)["model"])


def test_names_of_other_libraries_are_kept():
    state = {"regions.conv.weight": 1, "backbone.normalise": 2}
    assert current_names(state) == state


def test_statistics_next_to_weights_of_another_library_have_their_old_name(tmp_path):
    statistics = {"mean": [[[1.0]], [[2.0]], [[3.0]]], "std": [[[4.0]], [[5.0]], [[6.0]]]}
    torch.save({"model": {"a": torch.ones(1)}, "normalise": statistics}, tmp_path / "a.pth")
    mean, std = read(tmp_path / "a.pth").description.statistics
    assert (mean.flatten().tolist(), std.flatten().tolist()) == ([1, 2, 3], [4, 5, 6])
