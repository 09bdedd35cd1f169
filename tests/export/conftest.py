"""Provides exported files shared by several tests."""

import os

import pytest
import torch
from detection.heads import tiny
from export.small import SHAPE, File, detector
from filelock import FileLock
from narrow import TRUE, shallow_nets
from torch import nn

from resdet import config
from resdet.export import Form, to_onnx
from resdet.hub import build_for


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Returns a function that exports a model once to a file shared by all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def export(name: str, model: nn.Module, form: Form) -> File:
        path = shared / name / "model.onnx"
        with FileLock(shared / f"{name}.lock"):
            if not path.exists():
                path.parent.mkdir()
                to_onnx(model, path, form)
        return File(model, path)

    return export


@pytest.fixture(scope="session")
def mask_rcnn(once) -> File:
    """Exports a shallow Mask R-CNN of full width, so that int8 shrinks it; small images have regions on all levels."""
    with shallow_nets(TRUE):
        model = tiny.make("fpn", True, "data=coco", "model.box.canonical_size=15").eval()
    return once("mask_rcnn", model, Form(SHAPE))


@pytest.fixture(scope="session")
def pasting(once) -> File:
    """Exports a detector whose graph pastes the masks into the whole image."""
    return once("pasting", detector("c4", True, "model.box.pool=max"), Form(SHAPE, masks="inside"))


@pytest.fixture(scope="session")
def classifier(once) -> File:
    """A classifier exported with a dynamic batch size."""
    torch.manual_seed(0)
    experiment = config.load("shapes_resnet20.yaml", "model.backbone=cifar_resnet8")
    model = build_for(experiment, [f"class {number}" for number in range(10)]).eval()
    return once("classifier", model, Form(dynamic_batch=True))
