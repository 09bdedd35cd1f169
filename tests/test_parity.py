"""Tests the table of `resdet parity`: differences, a wrong weight, and libraries that are not installed."""

import json

import numpy as np
import pytest
import torch
from detection.heads import twins

from resdet.cli import main
from resdet.commands import parity, parity_detections
from resdet.results.result import Result
from resdet.weights.layouts import torchvision_detectors


@pytest.fixture
def only_resnet18(monkeypatch):
    monkeypatch.setattr(parity, "CLASSIFIERS", {"resnet18": ("resnet18", "bn")})
    monkeypatch.setattr(parity, "DETECTORS", [])
    monkeypatch.setattr(
        parity, "sample_image", lambda height, width: twins.pictures((64, 64))[0].permute(1, 2, 0).numpy()
    )


def test_the_table(only_resnet18, tmp_path, capsys):
    assert main(["parity", "torchvision", "--json", str(tmp_path / "table.json")]) == 0
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [(row["format"], row["model"]) for row in rows] == [("torchvision", "resnet18")] * 2
    logits, tensors = (row["difference"] for row in rows)
    assert 0 <= logits < 1e-9 and tensors == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "| format | model | compared | largest difference |" and len(shown) == 4


def test_a_wrong_weight_changes_the_difference(only_resnet18, monkeypatch):
    round_trip = parity.round_trip

    def wrong(model, layout):
        theirs, back = round_trip(model, layout)
        theirs.layer3[0].bn1.weight.data[0] += 1
        return theirs, back

    monkeypatch.setattr(parity, "round_trip", wrong)
    assert parity.parity(["torchvision"])[0]["difference"] > 1e-3


@torch.no_grad()
def test_a_narrow_detector(monkeypatch):
    """Compares boxes, scores, masks and tensors of a narrow Mask R-CNN by the code of the full-size models."""
    monkeypatch.setattr(parity, "SHORT", 96)
    state = twins.narrow(masks=True).state_dict()
    found = parity.compare_detector("torchvision", lambda: torchvision_detectors.settings(state))
    boxes, scores, masks, tensors = found.values()
    assert next(iter(found)).startswith("boxes of 100 detections")
    assert boxes < 0.01 and scores < 1e-4 and masks < 0.01 and tensors == 0


def result(boxes, scores, labels, masks=None) -> Result:
    boxes, scores, labels = np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels)
    return Result(boxes, scores, labels, [str(n) for n in labels], labels + 1, (10, 10), masks)


def test_differences_by_hand():
    """Compares two detections in swapped order that differ by 0.5 pixels, 0.1 in score and one of two mask pixels."""
    mine = np.zeros((2, 10, 10), bool)
    mine[0, 0, :2] = mine[1, 5, 5] = True
    theirs = torch.from_numpy(mine.copy()).flip(0)
    theirs[1, 0, 1] = False
    found = parity_detections.differences(
        result([[0, 0, 4, 4], [2, 2, 6, 6]], [0.9, 0.5], [0, 1], mine),
        torch.tensor([[2.0, 2, 6.5, 6], [0, 0, 4, 4]]),
        torch.tensor([0.6, 0.9]),
        torch.tensor([1, 0]),
        theirs,
    )
    assert list(found.values()) == pytest.approx([0.5, 0.1, 0.5])


@pytest.mark.parametrize(
    "boxes, labels", [([[0.0, 0, 4, 4]], [0]), ([[0.0, 0, 4, 4], [2, 2, 6, 6]], [0, 0])], ids=["fewer", "label"]
)
def test_unmatched_detections_have_a_huge_difference(boxes, labels):
    mine = result([[0, 0, 4, 4], [2, 2, 6, 6]], [0.9, 0.5], [0, 1])
    found = parity_detections.differences(
        mine, torch.tensor(boxes), torch.full((len(boxes),), 0.5), torch.tensor(labels), None
    )
    assert max(found.values()) > 1e5


def test_unknown_formats_and_missing_libraries(capsys, monkeypatch):
    assert main(["parity", "caffe3"]) == 2
    assert "torchvision, timm, detectron2" in capsys.readouterr().err
    monkeypatch.setattr(parity, "find_spec", lambda name: None)
    assert main(["parity", "detectron2"]) == 2
    assert "detectron2 is not installed" in capsys.readouterr().err
    assert parity.parity() == []
    assert "Skipped, not installed: torchvision, timm, detectron2" in capsys.readouterr().out
