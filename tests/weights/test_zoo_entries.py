"""Compares the entries of `resdet zoo` with torchvision's metadata and detectron2's model zoo page."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torchvision

from resdet.cli import main
from resdet.weights import detectron2_zoo, zoo
from resdet.weights.zoo_entries import entries

PAGE = Path(__file__).parents[2] / "docs/zoo.md"


def by_name():
    return {entry.name: entry for entry in entries()}


def test_every_name_has_an_entry():
    found = by_name()
    assert len(found) == len(entries()) and {*zoo.names()} <= {*found}
    files = {entry.file for entry in found.values()}
    for name in zoo.TORCHVISION:  # all files except VGG-16 without its classifier
        assert {zoo.file_name(member.url) for member in torchvision.models.get_model_weights(name)} - files <= {
            "vgg16_features-amdegroot-88682ab5.pth"
        }


def test_every_entry_can_be_downloaded(monkeypatch):
    """Checks the URL, the file name and the checksum of each download."""
    asked = []
    monkeypatch.setattr(zoo, "fetch", lambda url, place, **digest: asked.append((url, place.name, digest)))
    for entry in entries():
        zoo.locate(entry.name)
        algorithm, digits = entry.checksum.split()
        given = {"SHA-256": "sha256", "MD5": "md5"}[algorithm]
        assert asked[-1][:2] == (entry.url, entry.file) and asked[-1][2][given] == digits and digits in entry.file


def test_torchvision_metrics():
    """Compares metrics with those on torchvision's page of pretrained weights."""
    found = by_name()
    assert found["torchvision/resnet50"].published == {"top-1": 76.13, "top-5": 92.862}
    assert found["torchvision/resnet50.IMAGENET1K_V2"].published == {"top-1": 80.858, "top-5": 95.434}
    mask = found["torchvision/maskrcnn_resnet50_fpn_v2"]
    assert mask.published == {"box AP": 47.4, "mask AP": 41.8} and mask.size == pytest.approx(177.2, abs=0.1)
    assert (mask.task, mask.data, mask.checksum) == ("detection", "COCO val2017", "SHA-256 73cbd019")
    keypoint = found["torchvision/keypointrcnn_resnet50_fpn"]
    assert keypoint.published["keypoint AP"] == 65.0  # not the AP of the early epoch


def test_detectron2_entries():
    """Checks license, metrics and data of the entries; one license applies to all of detectron2's models."""
    theirs = [entry for entry in entries() if entry.name.startswith("detectron2/")]
    assert len(theirs) == len(detectron2_zoo.MODELS) and {entry.license for entry in theirs} == {"CC BY-SA 3.0"}
    assert all(("mask AP" in entry.published) == ("mask_rcnn" in entry.name) for entry in theirs)
    assert [entry.name for entry in theirs if entry.data != "COCO val2017"] == [
        "detectron2/PascalVOC-Detection/faster_rcnn_R_50_C4"
    ]


def test_filters():
    assert {entry.task for entry in entries(task="classification")} == {"classification"}
    assert len(entries(task="classification")) + len(entries(task="detection")) == len(entries())
    assert [entry.name for entry in entries("MASK r_101 fpn")] == [
        "detectron2/COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x"
    ]


def test_the_command(capsys, tmp_path):
    assert main(["zoo", "mask", "R_101", "--task", "detection", "--json", str(tmp_path / "zoo.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 1 + 3 + 1
        and "box AP 42.9, mask AP 38.6" in lines[3]
        and lines[-1] == "models: 3, measured here: 0"
    )
    rows = json.loads((tmp_path / "zoo.json").read_text())
    assert rows == [asdict(entry) for entry in entries("mask R_101")] and rows[0]["measured"] is None
    assert main(["zoo", "yolo"]) == 2
    assert "No published model matches 'yolo'" in capsys.readouterr().err


def test_the_page_is_current(capsys):
    assert main(["zoo", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed == PAGE.read_text(encoding="utf-8"), "run `resdet zoo --markdown > docs/zoo.md`"
    assert printed.count("not measured here") == len(entries())
