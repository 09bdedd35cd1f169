"""Tests `resdet export`: written files, printed messages, and the removal of files that fail the check."""

import copy
import json
import re
import sys
from dataclasses import replace

import cv2
import pytest
import torch
from export.small import SHAPE, detector, picture
from narrow import TRUE, shallow_nets

from resdet import timing
from resdet.commands import export as command
from resdet.commands.export import export, parse_shape
from resdet.errors import ConfigError, Error, FileError
from resdet.export import Form, onnx_model
from resdet.export.exporters import graph_of
from resdet.files.atomic import write_bytes
from resdet.hub import load as hub_load
from resdet.weights.save_weights import save

pytest.importorskip("torchvision")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("shallow")  # to load checkpoints of `detector`


@pytest.fixture(autouse=True)
def timed_once(monkeypatch):
    """Reduces the measurement of latency to one call per round."""
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.0)


@pytest.fixture
def small(classifier, tmp_path):
    save(classifier.model, tmp_path / "net.safetensors", "safetensors")
    return tmp_path / "net.safetensors"


def test_an_exported_detector_is_checked_and_timed(mask_rcnn, tmp_path, monkeypatch, capsys):
    """Replaces `to_onnx` with a copy of `mask_rcnn`'s file, after comparing the form and the names of the weights."""
    checkpoint, report = tmp_path / "best.safetensors", tmp_path / "report.json"
    save(mask_rcnn.model, checkpoint, "safetensors")

    def copied(model, path, form, *check):
        assert form == Form(SHAPE) and model.state_dict().keys() == mask_rcnn.model.state_dict().keys()
        write_bytes(path, mask_rcnn.path.read_bytes(), *check)

    monkeypatch.setattr(command, "to_onnx", copied)
    with shallow_nets(TRUE):  # to load the model of `mask_rcnn`
        export(str(checkpoint), "onnx", form=Form(SHAPE), json_path=str(report))
    told = json.loads(report.read_text())
    assert "detections agree" in told["agreement"] and told["latency_ms"].keys() == {"eager", "onnxruntime"}
    assert told["file"] == str(checkpoint.with_suffix(".onnx")) and told["bytes"] > 10_000
    said = capsys.readouterr().out
    agree, of = map(int, re.search(r"(\d+) of (\d+) detections agree, boxes within", said).groups())
    assert agree >= 0.95 * of > 5
    assert re.search(r"latency: eager \d+ ms, onnxruntime \d+ ms", said)
    assert f"written: {checkpoint.with_suffix('.onnx')}" in said
    assert onnx_model.load(checkpoint.with_suffix(".onnx")).classes == ["disc", "square", "bar"]


def test_a_classifier_is_exported_in_both_formats_and_checked_on_a_given_image(small, tmp_path, capsys):
    image = tmp_path / "mine.png"
    cv2.imwrite(str(image), picture(50, 60))
    export(str(small), "onnx", image=str(image))
    program = tmp_path / "program.pt2"
    export(str(small), "torch-export", out=str(program), form=Form(dynamic_batch=True), image=str(image))
    said = capsys.readouterr().out
    assert "same top class, scores within" in said and "bitwise equal" in said
    assert {path.name for path in tmp_path.iterdir()} == {"net.safetensors", "net.onnx", "mine.png", "program.pt2"}


def test_a_missing_image_is_reported(small):
    with pytest.raises(Error, match="nowhere.png: cannot read the file"):
        export(str(small), "onnx", image="nowhere.png")


def test_damaged_and_missing_images_are_reported_before_the_export(small, tmp_path, monkeypatch):
    monkeypatch.delattr("resdet.commands.export.to_onnx")
    (tmp_path / "cut.jpg").write_bytes(cv2.imencode(".jpg", picture(50, 60))[1].tobytes()[:-99])
    with pytest.raises(Error, match=r"cut.jpg is truncated"):
        export(str(small), "onnx", image=str(tmp_path / "cut.jpg"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Error, match="empty contains no images: give a folder with images, or a config"):
        export(str(small), "onnx", int8=True, calibrate=str(tmp_path / "empty"))
    with pytest.raises(Error, match=r"cut.jpg is truncated"):
        export(str(small), "onnx", int8=True, calibrate=str(tmp_path))


def test_calibration_data_of_other_classes_are_reported_before_the_export(small, tmp_path, monkeypatch):
    monkeypatch.delattr("resdet.commands.export.to_onnx")
    for split in ("train", "val"):
        folder = tmp_path / "data" / split / "cat"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), picture(50, 60))
    with pytest.raises(ConfigError, match="The model has 10 classes but the data has 1"):
        export(str(small), "onnx", int8=True, calibrate="folder.yaml", overrides=[f"data.root={tmp_path / 'data'}"])


@pytest.mark.parametrize("to, name", [("onnx", "net.int8.onnx"), ("openvino", "net.int8.bin")])
def test_an_int8_file_that_cannot_be_written_is_reported_before_the_export(small, tmp_path, monkeypatch, to, name):
    monkeypatch.delattr("resdet.commands.export.to_onnx")
    monkeypatch.setitem(command.TARGETS, to, replace(command.TARGETS[to], require_packages=lambda: None))
    (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), picture(50, 60))
    with pytest.raises(FileError, match=f"{name} is a folder: give the path of a file"):
        export(str(small), to, int8=True, calibrate=str(tmp_path))


@pytest.fixture
def at_once(classifier, monkeypatch):
    """Skips the export by copying the classifier's exported file."""
    taken = classifier.path.read_bytes()
    monkeypatch.setattr(command, "to_onnx", lambda model, path, form, *check: write_bytes(path, taken, *check))


def test_a_file_with_other_predictions_is_not_written(classifier, at_once, tmp_path):
    """Checks a file exported from other weights than the checkpoint's."""
    other = copy.deepcopy(classifier.model)
    torch.nn.init.normal_(other.backbone.fc.weight)
    save(other, tmp_path / "net.safetensors", "safetensors")
    with pytest.raises(Error, match="differ from the checkpoint's .*: nothing was written"):
        export(str(tmp_path / "net.safetensors"), "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_int8_export_is_written_next_to_the_float32_one(small, at_once, capsys):
    pictures = ["data.train_images=20", "data.val_images=20"]
    export(str(small), "onnx", int8=True, calibrate="shapes_resnet20.yaml", overrides=pictures)
    said = capsys.readouterr().out
    assert re.search(r"latency: float32 \d+ ms, int8 \d+ ms", said)
    whole, low, cost = map(float, re.search(r"\| top-1 \| (\S+) \| (\S+) \| (\S+) \|", said).groups())
    assert cost == pytest.approx(whole - low, abs=1e-4)
    assert onnx_model.load(small.with_suffix(".int8.onnx")).size == 32


@pytest.mark.parametrize("text", ["800", "800x", "x", "0x32", "800x1344x3", "-1x5", "a"])
def test_invalid_shapes_are_rejected(text):
    with pytest.raises(ConfigError, match=re.escape(f"--shape is {text!r}: give height and width, as 800x1344.")):
        parse_shape(text)


def test_shapes_are_parsed():
    assert parse_shape("800x1344") == (800, 1344) and parse_shape(None) is None


def test_conflicting_options_are_rejected(small, tmp_path):
    with pytest.raises(ConfigError, match="need each other"):
        export(str(small), "onnx", int8=True)
    with pytest.raises(ConfigError, match="need each other"):
        export(str(small), "onnx", calibrate=str(tmp_path))
    with pytest.raises(ConfigError, match="give --to onnx or --to openvino"):
        export(str(small), "torch-export", int8=True, calibrate=str(tmp_path))
    with pytest.raises(ConfigError, match="model's task is classification"):
        export(str(small), "onnx", int8=True, calibrate="shapes_mask_r18_fpn.yaml")


def test_forms_that_do_not_fit_the_model_are_rejected(classifier):
    with pytest.raises(ConfigError, match="--nms and --masks are for detectors"):
        graph_of(classifier.model, Form(masks="inside"))
    with pytest.raises(ConfigError, match="this one has none"):
        graph_of(detector("fpn", False), Form(masks="inside"))
    with pytest.raises(ConfigError, match="use --nms inside"):
        graph_of(detector("fpn", True), Form(nms="outside"))


def test_exporting_an_exported_file_is_rejected(classifier, monkeypatch):
    monkeypatch.setattr(command.hub, "load", onnx_model.load)
    with pytest.raises(ConfigError, match="is already an exported file"):
        export(str(classifier.path), "onnx")


def test_a_missing_openvino_is_reported_before_loading(monkeypatch, small):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(command.hub, "load", None)
    with pytest.raises(Error, match=r'^Export to OpenVINO needs a package .*: pip install "resdet\[openvino\]"$'):
        export(str(small), "openvino")
    with pytest.raises(Error, match=r'a.xml needs a package .*: pip install "resdet\[openvino\]"$'):
        hub_load("a.xml")


def test_overwriting_the_checkpoint_is_rejected(small):
    before = small.read_bytes()
    with pytest.raises(FileError, match="is an input file: give another output file with --out"):
        export(str(small), "onnx", out=str(small))
    assert small.read_bytes() == before
