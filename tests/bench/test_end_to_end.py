"""Tests the end-to-end benchmark suite at small sizes: all sides write the same results."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask

from resdet.bench import end_to_end, nets
from resdet.bench.detection import twins

pytest.importorskip("torchvision")
pytestmark = pytest.mark.usefixtures("narrow_heads")

SHORT, LONG, BODY = 96, 144, "resnet18"


@pytest.mark.parametrize("masks", [False, True])
def test_both_libraries_write_the_same_detections(masks, tmp_path):
    """Compares boxes, classes and masks of the best detections of each image."""
    paths, weights = end_to_end.write_photographs(tmp_path, 2), tmp_path / "a.pth"
    assert len({*paths}) == 2 and all(path.stat().st_size > 1000 for path in paths)
    torch.save(twins(masks, SHORT, LONG, BODY)[0].state_dict(), weights)
    peer = end_to_end.load_peer(weights, masks, SHORT, LONG, BODY)
    written = []
    for entries in (
        end_to_end.with_torchvision(peer, paths),
        end_to_end.with_resdet(end_to_end.load_ours(weights, SHORT, LONG), paths),
    ):
        end_to_end.write(entries, tmp_path)
        written.append(json.loads((tmp_path / "results.json").read_text()))
    for number in range(2):
        theirs, ours = ([entry for entry in file if entry["image_id"] == number] for file in written)
        assert len(theirs) > 50 and abs(len(theirs) - len(ours)) < 5
        boxes, others = (np.array([entry["bbox"] for entry in side]) for side in (theirs, ours))
        labels, kinds = (np.array([entry["category_id"] for entry in side]) for side in (theirs, ours))
        apart = np.abs(boxes[:20, None] - others).max(2)
        apart[labels[:20, None] != kinds] = np.inf
        near = apart.min(1) < 0.5
        assert near.mean() > 0.8
        assert all(("segmentation" in entry) == masks for entry in (*theirs, *ours))
        if masks:
            pairs = [(theirs[row], ours[apart[row].argmin()]) for row in np.flatnonzero(near)]
            ious = [mask.iou([a["segmentation"]], [b["segmentation"]], [0]).item() for a, b in pairs]
            assert np.median(ious) > 0.9


def test_both_libraries_write_the_same_classes(tmp_path):
    paths = end_to_end.write_photographs(tmp_path, 3)
    case = end_to_end.classification(tmp_path, paths, BODY)
    written = {}
    for name in ("torchvision", "resdet exact", "resdet fast"):
        case.sides[name]()
        written[name] = json.loads((tmp_path / "results.json").read_text())
    for name in ("resdet exact", "resdet fast"):
        assert [entry["image_id"] for entry in written[name]] == [0, 1, 2]
        for entry, peer in zip(written[name], written["torchvision"]):
            scores = dict(zip(peer["labels"], peer["scores"]))
            common = scores.keys() & {*entry["labels"]}
            assert len(entry["labels"]) == len(scores) and len(common) >= 3
            for label, score in zip(entry["labels"], entry["scores"]):
                assert score == pytest.approx(scores.get(label, score), rel=0.05)


def test_missing_runtimes_are_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(nets, "find_spec", lambda name: None if name in ("openvino", "onnxruntime") else name)
    for side in (end_to_end.with_onnxruntime, end_to_end.with_openvino):
        assert side(None, tmp_path, []) == "not installed"
