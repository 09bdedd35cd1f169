"""Exported files that several tests use."""

import pytest
import torch
from detection.heads import tiny
from export.small import SHAPE, File, detector

from resdet import config
from resdet.export import Form, to_onnx
from resdet.hub import build_for


@pytest.fixture(scope="session")
def mask_rcnn(tmp_path_factory) -> File:
    """Its regions are of all levels, as small as the pictures are; of true width and depth, for int8 to shrink."""
    model = tiny.make("fpn", True, "data=coco", "model.box.canonical_size=30").eval()
    path = tmp_path_factory.mktemp("mask_rcnn") / "model.onnx"
    to_onnx(model, path, Form(SHAPE))
    return File(model, path)


@pytest.fixture(scope="session")
def pasting(tmp_path_factory) -> File:
    """Masks of the whole image, drawn in the graph."""
    model = detector("c4", True, "model.box.pool=max")
    path = tmp_path_factory.mktemp("pasting") / "model.onnx"
    to_onnx(model, path, Form(SHAPE, masks="inside"))
    return File(model, path)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> File:
    """Takes any number of images."""
    torch.manual_seed(0)
    experiment = config.load("shapes_resnet20.yaml", "model.backbone=cifar_resnet8")
    model = build_for(experiment, [f"class {number}" for number in range(10)]).eval()
    path = tmp_path_factory.mktemp("classifier") / "model.onnx"
    to_onnx(model, path, Form(dynamic_batch=True))
    return File(model, path)
