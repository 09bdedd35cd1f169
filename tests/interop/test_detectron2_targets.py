"""Tests the targets of detectron2's instances with stand-ins for its classes, which need not be installed."""

import importlib
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

import resdet.interop

MODULES = ("", ".config", ".layers", ".modeling", ".modeling.backbone", ".modeling.backbone.fpn", ".structures")
GUEST = "resdet.interop.detectron2"


class Registry:
    def register(self):
        return lambda registered: registered


class Instances(SimpleNamespace):
    """Returns annotations like detectron2's mapper: images without objects lack masks and keypoints."""

    def __init__(self, count: int):
        boxes = torch.arange(4.0).repeat(count, 1)
        super().__init__(gt_boxes=SimpleNamespace(tensor=boxes, device=boxes.device), count=count)
        self.gt_classes = torch.ones(count, dtype=torch.int64)
        if count:
            self.gt_masks = SimpleNamespace(crop_and_resize=lambda boxes, side: torch.ones(len(boxes), side, side) > 0)
            self.gt_keypoints = SimpleNamespace(tensor=torch.full((count, 17, 3), 2.0))

    def __len__(self) -> int:
        return self.count


@pytest.fixture
def guest(monkeypatch):
    for name in MODULES:
        monkeypatch.setitem(sys.modules, f"detectron2{name}", MagicMock())
    modeling, backbone = sys.modules["detectron2.modeling"], sys.modules["detectron2.modeling.backbone"]
    modeling.BACKBONE_REGISTRY = modeling.META_ARCH_REGISTRY = Registry()
    backbone.Backbone = backbone.FPN = type("Backbone", (torch.nn.Module,), {})
    # The module refers to the stand-ins: forget it after the test.
    monkeypatch.setattr(resdet.interop, "detectron2", None, raising=False)
    monkeypatch.setitem(sys.modules, GUEST, None)
    del sys.modules[GUEST]
    return importlib.import_module(GUEST)


def test_an_image_without_objects_has_empty_masks_and_keypoints(guest):
    targets = guest.targets_of([Instances(2), Instances(0)], 28, 17)
    assert targets.valid.tolist() == [[True, True], [False, False]]
    assert targets.masks.shape == (2, 2, 28, 28) and targets.keypoints.shape == (2, 2, 17, 3)
    for field, value in ((targets.masks, 255), (targets.keypoints, 2)):
        assert (field[0] == value).all() and not field[1].any()


def test_a_batch_without_objects_has_the_masks_of_the_detector(guest):
    targets = guest.targets_of([Instances(0), Instances(0)], 28, None)
    assert targets.masks.shape == (2, 0, 28, 28) and targets.keypoints is None


def test_a_detector_of_boxes_needs_no_masks(guest):
    targets = guest.targets_of([Instances(1)], None, None)
    assert targets.masks is None and targets.keypoints is None and targets.boxes.shape == (1, 1, 4)
