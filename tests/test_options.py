"""Tests command options: output files are created, and options that do not apply to the model are refused."""

import json
import os
import re
from contextlib import nullcontext
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from torch import nn

import resdet
from resdet import config, hub, weights
from resdet.batch_inference.program import Program
from resdet.cli import main
from resdet.commands import convert, export, predict
from resdet.errors import ConfigError
from resdet.localization import task
from resdet.model import Prepared
from resdet.tasks import refuse_model_settings, tasks


def refusal(words, capsys) -> str:
    """Returns the error line of `resdet` or of argparse."""
    try:
        status = main([str(word) for word in words])
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and "Traceback" not in error
    return error.splitlines()[-1]


def test_the_folder_of_an_output_file_is_created(tmp_path, results, capsys):
    file = tmp_path / "a/b/figures.json"
    assert main(["evaluate", *map(str, results), "--json", str(file)]) == 0
    assert json.loads(file.read_text())["AP"] == pytest.approx(1)
    assert main(["nets", "resnet18", "--json", str(tmp_path / "c/nets.json")]) == 0
    assert (tmp_path / "c/nets.json").exists()


WRITERS = [
    (["nets", "resnet18"], "--json"),
    (["parity", "torchvision"], "--json"),
    (["bench", "pipeline"], "--json"),
    (["predict", "--weights", "none.pth"], "--json"),
    *((["evaluate", "--weights", "none.pth"], option) for option in ("--json", "--save", "--submission")),
]


@pytest.mark.parametrize("words, option", WRITERS)
def test_unwritable_output_files_are_refused_at_the_start(words, option, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert f"resdet: {tmp_path} is a folder" in refusal([*words, option, tmp_path], capsys)
    assert f"resdet: {tmp_path}/file: cannot create the folder" in refusal(
        [*words, option, tmp_path / "file/a"], capsys
    )
    (tmp_path / "file.json").write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"resdet: {tmp_path}/file.json cannot be written" in refusal(
        [*words, option, tmp_path / "file.json"], capsys
    )


@pytest.mark.parametrize(
    "option", ["--confusion", "--curves", "--engine hotcoco", "--protocol coco", "--type bbox", "--protocol voc07"]
)
def test_options_of_results_are_refused_with_weights(option, capsys):
    told = refusal(["evaluate", "--weights", "none.pth", *option.split()], capsys)
    instead = "resdet report" if option in ("--confusion", "--curves") else "eval.metric"
    assert f"{option.split()[0]} needs --results" in told and instead in told and "--save" in told


@pytest.mark.parametrize(
    "option", ["--config voc07_vgg16", "data.root=a", "--submission a.zip", "--classifier b.pth", "--split test"]
)
def test_options_of_weights_are_refused_with_results(option, results, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = refusal(["evaluate", *option.split(), *results], capsys)
    assert f"{option.split()[0]} needs --weights" in told


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_an_overlap_without_tiles_is_refused(command, capsys):
    assert "--overlap is for tiles: add --tile PIXELS" in refusal(
        [command, "--weights", "none.pth", "--overlap", 0.3], capsys
    )


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_an_engine_of_coco_is_refused_with_another_protocol(engine, results, capsys):
    told = refusal(["evaluate", *results, "--protocol", "voc07", "--engine", engine], capsys)
    assert told == "resdet: --engine is for --protocol coco and has no effect on voc07: leave it out."
    assert main(["evaluate", *map(str, results), "--protocol", "coco", "--engine", engine]) == 0


@pytest.mark.parametrize("option", ["--per-class", "--json a.json", "--save a.json", "--split test"])
def test_metric_options_are_refused_with_a_submission(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = refusal(["evaluate", "--weights", "none.pth", "--submission", "a.zip", *option.split()], capsys)
    assert f"{option.split()[0]} and --submission exclude each other" in told


def test_results_are_evaluated_by_coco_by_default(results, capsys):
    assert main(["evaluate", *map(str, results)]) == 0
    assert "| AP | AP50 |" in capsys.readouterr().out
    assert main(["evaluate", *map(str, results), "--protocol", "voc07"]) == 0
    assert "| mAP |" in capsys.readouterr().out


MODELS = {
    "classifier": ("shapes_resnet20", "model.num_classes=4"),
    "localizer": ("imagenet_loc_r101", "model.backbone=resnet18", "model.num_classes=4"),
    "detector": ("coco_r50_fpn",),
}


@pytest.mark.parametrize("kind", MODELS)
def test_options_of_other_models_are_refused(kind):
    with torch.device("meta"):
        model = resdet.build(*MODELS[kind])
    check = lambda path, **given: tasks[model.task].check_evaluate_options(given, path)
    for owner, given in (
        ("detector", {"save": "r.json"}),
        ("detector", {"split": "test"}),
        ("localizer", {"classifiers": ["net.pth"]}),
    ):
        if kind == owner:
            check("a.pth", per_class=kind != "localizer", **given)
            continue
        with pytest.raises(ConfigError, match=f" is for {owner}s, and a.pth is none"):
            check("a.pth", **given)
    if kind == "localizer":
        with pytest.raises(ConfigError, match="--per-class .* a.pth is a localizer"):
            check("a.pth", per_class=True)


def test_evaluate_checks_options_before_data(tmp_path, capsys):
    """Checks that options are refused before the data, which do not exist here, are opened."""
    model = resdet.build("cifar10_resnet20", "model.num_classes=10", "model.backbone=cifar_resnet8")
    content = {"model": model.state_dict(), "experiment": model.experiment, "classes": model.classes}
    torch.save(content, tmp_path / "net.pth")
    words = ["evaluate", "--weights", tmp_path / "net.pth"]
    assert "--save is for detectors" in refusal([*words, "--save", tmp_path / "r.json"], capsys)
    assert "--classifier is for localizers" in refusal([*words, "--classifier", "x.pth"], capsys)


@pytest.mark.parametrize(
    "kind, word, told",
    [
        ("classifier", "model.label_smoothing=0.1", "model.label_smoothing is 0.0 in net.pth, and 0.1 would have no"),
        ("localizer", "data.size=96", "data.size is 224 in net.pth, and 96 would have no effect"),
        ("localizer", "data.short=300", "data.short is 256 in net.pth"),
        ("detector", "model.box={nms: 0.4}", "model.box.nms is 0.5 in net.pth, and 0.4 would have no effect"),
        ("detector", "model.box.nms=0.5", None),
        ("detector", "data=shape_scenes", None),  # has its own data.size
        ("detector", "eval.nms=0.4", None),
    ],
)
def test_evaluate_refuses_settings_of_the_model(kind, word, told):
    before = config.load(*MODELS[kind])
    after = config.from_dict(config.to_dict(before), "net.pth", (word,))
    with pytest.raises(ConfigError, match=re.escape(told)) if told else nullcontext():
        refuse_model_settings(before, after, [word], "net.pth")


def test_evaluate_refuses_another_crop_before_it_opens_data(tmp_path, capsys):
    words = ("data.size=32", "data.short=40", "model.backbone=cifar_resnet8", "data.root=none")
    model = resdet.build("folder.yaml", *words, "model.num_classes=4")
    content = {"model": model.state_dict(), "experiment": model.experiment, "classes": model.classes}
    torch.save(content, tmp_path / "net.pth")
    told = refusal(["evaluate", "--weights", tmp_path / "net.pth", "data.test_size=40"], capsys)
    assert "data.test_size is null in " in told and "and 40 would have no effect" in told


def test_evaluate_does_not_overwrite_its_inputs(tmp_path, results, capsys):
    (tmp_path / "parts").mkdir()
    files = [tmp_path / name for name in ("a.pth", "net.pth", "own.yaml", "parts/_manifest.json")]
    for file in files:
        file.write_text("kept")
    weights, net, settings, manifest = files
    words = ["--weights", weights, "--classifier", net, "--config", settings]
    truth, found = results[1::2]
    folder = ["--annotations", truth, "--results", manifest.parent]
    for given, option, file in (
        *((words, option, file) for file in (weights, net, settings) for option in ("--save", "--submission")),
        *((results, "--json", file) for file in (truth, found)),
        (folder, "--json", manifest),
    ):
        told = refusal(["evaluate", *given, option, file], capsys)
        assert f"{file} is an input file: give another output file with {option}." in told
    assert all(file.read_text() == "kept" for file in files) and json.loads(found.read_text())


@pytest.mark.parametrize("calibrate", [None, "folder"])
def test_export_overrides_need_a_calibration_config(calibrate, tmp_path):
    folder = calibrate and str(tmp_path)
    with pytest.raises(ConfigError, match="data.val_images=3 overrides the config of --calibrate"):
        export.open_calibration(export.TARGETS["onnx"], bool(folder), folder, ["data.val_images=3"])
    taken = export.open_calibration(export.TARGETS["onnx"], True, "shapes_resnet20.yaml", ["data.val_images=3"])
    assert taken.experiment.data.val_images == 3


def test_convert_overwrites_its_output(tmp_path, monkeypatch, capsys):
    """Checks that a conversion overwrites its output, but not its input file."""
    model = tiny.make("fpn", False)
    monkeypatch.setattr(convert.hub, "load", lambda path: model)
    monkeypatch.setattr(convert, "check", lambda *_: 1)
    for _ in range(2):
        assert convert.convert("torchvision/some_net", "safetensors", str(tmp_path / "net.safetensors")).exists()
    weights.save(model, tmp_path / "own.safetensors", "safetensors")
    with pytest.raises(resdet.Error, match="is an input file"):
        convert.convert(str(tmp_path / "own.safetensors"), "safetensors", str(tmp_path / "own.safetensors"))


@pytest.fixture
def picture(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    return str(tmp_path / "a.png")


def test_eval_score_sets_the_threshold_of_predict(tmp_path, picture, monkeypatch):
    """Checks that eval.score sets the score threshold and that --score takes precedence."""
    model = tiny.make("c4", False).eval()
    monkeypatch.setattr(hub, "load", lambda path, *options: model)
    monkeypatch.setattr(predict.distributed, "choose_device", lambda device, key: torch.device("cpu"))
    scores = np.sort(model.predict([picture], score=0.0)[0].scores)
    assert len(scores) > 4 and scores[-1] > scores[0]
    middle = float(scores[len(scores) // 2 - 1] + scores[len(scores) // 2]) / 2
    for words, least in (((None, [f"eval.score={middle}"]), middle), ((0.0, [f"eval.score={middle}"]), 0.0)):
        program = Program(["a.pth"], score=words[0], overrides=words[1])
        predict.predict(program, [picture], str(tmp_path / "r.json"))
        (row,) = json.loads((tmp_path / "r.json").read_text())
        assert len(row["detections"]) == (scores >= least).sum()


def test_top_is_refused_for_a_detector(picture, monkeypatch):
    monkeypatch.setattr(hub, "load", lambda path, *options: tiny.make("c4", False))
    with pytest.raises(ConfigError, match="--top is for classifiers and localizers"):
        predict.predict(Program(["a.pth"], top=3), [picture])


class Net(nn.Module):
    """A stub of a classifier that records the device of its weights when it predicts."""

    task, kind, exported = "classification", "classifier", False

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(3)), []

    def prepare_image(self, image):
        return Prepared(None, image, (1, 1))

    def predict_prepared(self, images, top):
        self.seen.append(self.weight.device.type)
        return [SimpleNamespace(names=["cat"], scores=[1.0]) for _ in images]


@pytest.mark.parametrize("words, chosen", [([], "meta"), (["--device", "cpu"], "cpu")])
def test_predict_uses_the_chosen_device(words, chosen, picture, monkeypatch):
    """Replaces the device that `auto` chooses by meta, and checks that the model is moved to the chosen one."""
    net, devices = Net(), {"auto": torch.device("meta"), "cpu": torch.device("cpu")}
    monkeypatch.setattr(hub, "load", lambda path, mode, device, compile: net.to(device))
    monkeypatch.setattr(predict.distributed, "choose_device", lambda device, key: devices[device])
    assert main(["predict", "--weights", "a.pth", *words, "--", str(picture)]) == 0
    assert net.seen == [chosen]


@pytest.mark.parametrize("more", [[], ["--parquet", "out"]])
def test_an_invalid_device_is_refused(more, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["predict", "--weights", "a.pth", "--device", "gpu", *more, "--", picture]
    assert refusal(words, capsys) == "resdet: --device is gpu: give auto, cpu, cuda or cuda:N."


@pytest.mark.parametrize("more", [[], ["--parquet", "out"]])
@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--top", "-1"], "--top: -1 is not a whole number of 1 or more"),
        (["--top", "0"], "--top: 0 is not a whole number of 1 or more"),
        *(
            (["--score", value], f"--score: {value} is not a number from 0 to 1")
            for value in ("nan", "50", "1.5", "-1")
        ),
    ],
)
def test_values_out_of_range_are_refused(words, sentence, more, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = refusal(["predict", "--weights", "a.pth", *words, *more, "--", picture], capsys)
    assert told == f"resdet predict: error: argument {sentence}"


def test_classifiers_of_a_localizer_use_the_chosen_device(picture, monkeypatch):
    nets, taken = [Net(), Net()], []
    nets[0].task, nets[0].experiment, nets[0].classes = "localization", {"task": "localization"}, ["cat"]
    given = {"a.pth": nets[0], "b.pth": nets[1]}
    monkeypatch.setattr(hub, "load", lambda path, mode, device, compile: given[path].to(device))
    monkeypatch.setattr(task, "check_classifier", lambda net, *_: net)
    monkeypatch.setattr(predict.distributed, "choose_device", lambda device, key: torch.device("meta"))
    monkeypatch.setattr(task, "ClassifyAndLocate", lambda models, nets, *_: taken.extend([*models, *nets]))
    monkeypatch.setattr(task, "show", lambda *_: [])
    predict.predict(Program(["a.pth"], ["b.pth"]), [picture])
    assert [net.weight.device.type for net in taken] == ["meta", "meta"]


def test_an_exported_model_is_not_moved(monkeypatch):
    model = SimpleNamespace(exported=True)
    monkeypatch.setattr(hub.onnx_model, "load", lambda path: model)
    assert hub.load("a.onnx", "fast", "meta") is model
