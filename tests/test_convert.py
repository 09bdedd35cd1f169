"""Tests `resdet convert`: the printed lines load the file in the other library, with the same outputs."""

import numpy as np
import pytest
import torch
from detection.heads import twins

import resdet
from resdet import weights
from resdet.cli import main
from resdet.commands.convert import convert


@pytest.fixture
def classifier(tmp_path):
    """Builds a ResNet-18 and saves it in resdet's format; returns the model and the file."""
    torch.manual_seed(0)
    model = resdet.build("imagenet_r18", "model.backbone.shortcut=B", "model.num_classes=3").eval()
    model.classes = ["ant", "bee", "cow"]
    weights.save(model, tmp_path / "best.safetensors", "safetensors")
    return model, tmp_path / "best.safetensors"


@pytest.fixture
def detector(tmp_path):
    model = twins.ours(twins.narrow(masks=True))
    weights.save(model, tmp_path / "best.safetensors", "safetensors")
    return model, tmp_path / "best.safetensors"


def lines(printed: str) -> str:
    return printed.partition("To load it:\n\n")[2]


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
@torch.no_grad()
def test_classifier_to_another_library(layout, classifier, capsys):
    pytest.importorskip(layout)
    model, source = classifier
    assert main(["convert", str(source), "--to", layout]) == 0
    printed, names = capsys.readouterr().out, {}
    assert f"best.{layout}.pth: 104 tensors, read back bit for bit" in printed
    exec(lines(printed), names)
    assert "224 × 224" in printed and "[0.485, 0.456, 0.406]" in printed
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    expected = model(pixels)
    found = names["model"](
        (pixels / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    )
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_detector_to_torchvision(detector, capsys):
    model, source = detector
    path = convert(str(source), "torchvision")
    assert path == source.with_name("best.torchvision.pth")
    names: dict = {}
    exec(lines(capsys.readouterr().out), names)
    assert torch.equal(names["model"].rpn.head.bbox_pred.weight, model.rpn.deltas.weight)
    assert not names["model"].training


def test_torchvision_file_to_safetensors(tmp_path, capsys):
    torch.save(twins.narrow().state_dict(), tmp_path / "theirs.pth")
    path = convert(str(tmp_path / "theirs.pth"), "safetensors")
    assert path == tmp_path / "theirs.safetensors"
    names: dict = {}
    exec(lines(capsys.readouterr().out), names)
    assert names["model"].input.resize == "torchvision"


def test_detectron2_config_is_written_beside_the_weights(tmp_path, capsys):
    settings = "shapes_mask_r18_fpn", "model.num_classes=3", "model.neck.width=32", "model.box.width=32"
    model = resdet.build(*settings, "model.mask=null")
    weights.save(model, tmp_path / "best.safetensors", "safetensors")
    assert (
        main(["convert", str(tmp_path / "best.safetensors"), "--to", "detectron2", "--out", str(tmp_path / "d.pkl")])
        == 0
    )
    printed = capsys.readouterr().out
    assert f"cfg.merge_from_file('{tmp_path}/d.yaml')" in printed
    import yaml

    config = yaml.safe_load((tmp_path / "d.yaml").read_text())
    assert config["MODEL"]["RESNETS"]["DEPTH"] == 18 and config["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == 3
    again = resdet.load(tmp_path / "d.pkl")
    assert torch.equal(again.rpn.deltas.weight, model.rpn.deltas.weight)


def test_other_yaml_files_are_not_overwritten(tmp_path, capsys):
    settings = "shapes_mask_r18_fpn", "model.num_classes=3", "model.neck.width=32", "model.box.width=32"
    weights.save(resdet.build(*settings, "model.mask=null"), tmp_path / "best.safetensors", "safetensors")
    words = ["convert", str(tmp_path / "best.safetensors"), "--to", "detectron2", "--out"]
    (tmp_path / "config.yaml").write_text("task: detection\n")
    assert main([*words, str(tmp_path / "config.pth")]) == 2
    assert f"{tmp_path}/config.yaml exists" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == "task: detection\n" and not (tmp_path / "config.pth").exists()
    assert main([*words, str(tmp_path / "new.yaml")]) == 2
    assert "give a name with another ending" in capsys.readouterr().err
    assert not (tmp_path / "new.yaml").exists()
    assert [main([*words, str(tmp_path / "new.pth")]) for _ in range(2)] == [0, 0]


def test_the_input_file_is_not_overwritten(classifier, capsys):
    _, source = classifier
    before = source.read_bytes()
    assert main(["convert", str(source), "--to", "safetensors"]) == 2
    assert "give another output file with --out" in capsys.readouterr().err
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    "overrides, layout, sentence",
    [
        (["model.backbone.shortcut=A"], "torchvision", "shortcuts A or C"),
        (["model.backbone=cifar_resnet8", "data=shapes"], "timm", "include no such net"),
        (["model.backbone=cifar_resnet8", "data=shapes"], "detectron2", "no such backbone"),
    ],
)
def test_unsupported_models_are_refused(overrides, layout, sentence, tmp_path, capsys):
    weights.save(
        resdet.build("imagenet_r18", "model.num_classes=3", *overrides), tmp_path / "a.safetensors", "safetensors"
    )
    assert main(["convert", str(tmp_path / "a.safetensors"), "--to", layout]) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("layout", ["torchvision", "timm", "detectron2"])
def test_a_per_pixel_mean_is_refused(classifier, tmp_path, capsys, layout):
    model, _ = classifier
    model.normalize.set(torch.from_numpy(np.random.default_rng(0).random((3, 8, 8), np.float32)), torch.ones(3))
    weights.save(model, tmp_path / "m.safetensors", "safetensors")
    assert main(["convert", str(tmp_path / "m.safetensors"), "--to", layout]) == 2
    assert "a per-pixel mean" in capsys.readouterr().err
    assert not (tmp_path / f"m.{layout}.pth").exists()
