"""Tests prediction of selected classes."""

import json

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny

from resdet import hub
from resdet.batch_inference.images import Address
from resdet.batch_inference.program import Program
from resdet.detection.inference.class_filter import ClassFilter
from resdet.engine import distributed

ALL = 0.0  # score threshold


@pytest.fixture
def model(monkeypatch):
    model = tiny.make("c4", False).eval()
    monkeypatch.setattr(hub, "load", lambda path, *options: model)
    monkeypatch.setattr(distributed, "choose_device", lambda device, key: torch.device("cpu"))
    return model


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    return str(tmp_path / "a.png")


def test_results_of_classes(model, picture):
    whole = model.predict(picture, score=ALL)
    first, *others = dict.fromkeys(whole.names)
    assert others
    one, all_others = whole.of_classes(first), whole.of_classes(*others)
    assert {*one.names} == {first} and {*all_others.names} == {*others} and len(one) + len(all_others) == len(whole)
    assert np.array_equal(one.boxes, whole.boxes[np.array(whole.names) == first])
    assert len(whole.of_classes()) == 0


def test_images_and_frames_are_filtered_equally(model, picture):
    whole = model.predict(picture, score=ALL)
    name = whole.names[0]
    wanted = whole.of_classes(name).to_dict()
    filtered = ClassFilter(model, [name])
    (prepared,) = filtered.predict_prepared([filtered.prepare_image(picture)], ALL)
    (streamed,) = filtered.stream(iter([picture]), ALL)
    for result in (prepared, streamed):
        assert result.to_dict()["detections"] == wanted["detections"]


def test_the_command_leaves_out_other_classes(model, picture, tmp_path, command):
    names = [*dict.fromkeys(model.predict(picture, score=ALL).names)][:2]
    out = tmp_path / "r.json"
    done = command("predict", "--weights", "a.pth", picture, "--score", 0, "--classes", ", ".join(names), "--json", out)
    assert done.returncode == 0
    (row,) = json.loads(out.read_text())
    assert {detection["name"] for detection in row["detections"]} == {*names}


def test_the_score_threshold_applies_to_filtered_results(model, picture):
    whole = model.predict(picture, score=ALL)
    name = whole.names[0]
    scores = np.unique(whole.of_classes(name).scores)
    score = float(scores[-2:].mean())
    wanted = np.sum(whole.of_classes(name).scores > score)
    filtered = ClassFilter(model, [name])
    (prepared,) = filtered.predict_prepared([filtered.prepare_image(picture)], score)
    (streamed,) = filtered.stream(iter([picture]), score)
    assert len(prepared) == len(streamed) == wanted and 0 < wanted < len(whole.of_classes(name))


def test_rows_of_many_images_leave_out_other_classes(model, picture):
    """Checks the predictor of `--parquet`, Ray and Spark, for one detector and for an ensemble."""
    whole = model.predict(picture, score=ALL)
    first, *others = dict.fromkeys(whole.names)
    for weights in (["a.pth"], ["a.pth", "b.pth"]):
        loaded = Program(weights, score=ALL, classes=[first]).load(torch.device("cpu"))
        (row,) = loaded.rows([Address(picture)])
        assert {*row["names"]} == {first}


@pytest.mark.parametrize("given", ["", " , "])
def test_an_empty_list_of_classes_is_refused(given, picture, command):
    """An unset shell variable gives such a list, which would select all classes."""
    done = command("predict", "--weights", "a.pth", picture, "--classes", given)
    assert done.returncode == 2 and f"--classes: {given!r} has no name" in done.stderr


def test_unknown_classes_are_refused(model, picture, command):
    known = model.classes[0]
    done = command("predict", "--weights", "a.pth", picture, "--classes", f"{known},{known}x")
    assert done.returncode == 2 and f"a.pth has no class '{known}x': did you mean {known}?" in done.stderr
    done = command("predict", "--weights", "a.pth", picture, "--classes", "?")
    assert done.returncode == 2 and f"no class '?': choose from {', '.join(model.classes)}." in done.stderr


def test_names_with_commas_are_in_double_quotes(model, picture, tmp_path, command):
    model.classes = ["table, dining", *model.classes[1:]]
    expected = len(model.predict(picture, score=ALL).of_classes("table, dining", model.classes[1]))
    out = tmp_path / "r.json"
    given = f'"table, dining",{model.classes[1]}'
    done = command("predict", "--weights", "a.pth", picture, "--score", 0, "--classes", given, "--json", out)
    assert done.returncode == 0 and expected
    (row,) = json.loads(out.read_text())
    assert len(row["detections"]) == expected
    done = command("predict", "--weights", "a.pth", picture, "--classes", "table, dining")
    choice = f'choose from "table, dining", {model.classes[1]}'
    assert done.returncode == 2 and f"a.pth has no class 'table': {choice}" in done.stderr


def test_names_over_several_lines_are_refused(picture, command):
    done = command("predict", "--weights", "a.pth", picture, "--classes", "cat\ndog")
    assert done.returncode == 2 and "--classes" in done.stderr and "give names between commas" in done.stderr
