"""Tests that the operators import neither torch._dynamo, unlike `torch.library.custom_op`, nor torchvision."""

import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from resdet.ops import nms, roi_align
from resdet.optional import torchvision_operators

SCRIPT = """
import sys, torch
before = set(sys.modules)
import resdet.hub, resdet.detection.model
from resdet.ops.nms import nms
from resdet.ops.roi_align import roi_align
from resdet.ops.roi_pool import roi_pool
box, one = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]]), torch.zeros(1, 1, dtype=torch.int64)
assert nms(box, box[..., 3], one, one == 0, 0.5, 1)[1].all()
maps = torch.ones(1, 2, 8, 8)
for sampling in (0, 2):
    assert (roi_align([maps], box, one, [1.0], 2, sampling) == 1).all()
assert (roi_pool(maps, box, 1.0, 2) == 1).all()
print(sorted({"torch._dynamo", "torchvision"} & (set(sys.modules) - before)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="loads the package of torchvision there")
def test_neither_dynamo_nor_torchvision_is_imported():
    """Either import would take as long as that of torch, in every command, rank and loader worker."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.stdout == "[]\n", done.stderr


def test_torchvision_is_imported_if_its_library_cannot_be_loaded(monkeypatch):
    torchvision_operators.cache_clear()
    monkeypatch.setattr("resdet.optional.find_spec", lambda name: None)
    names, asked = {"nms"}, []
    monkeypatch.setattr(torch.ops, "torchvision", type("Operators", (), {})())
    monkeypatch.setattr("resdet.optional.torchvision", lambda: asked.append(names))
    torchvision_operators()
    torchvision_operators.cache_clear()
    assert asked == [names]


def test_kernels_run_on_the_device_of_their_boxes(monkeypatch):
    """Replaces the kernels and torch's choice of a device: Triton launches on the current device of the thread, which
    is the first GPU in a new thread, as those of `resdet serve`, and in a program that loads a model to `cuda:1`."""
    current = []

    @contextmanager
    def device(chosen):
        current.append(chosen)
        yield
        current.pop()

    def kernel(*inputs):
        assert current == [boxes.device]
        return inputs[2]

    stubs = {
        "nms": SimpleNamespace(survivors=kernel),
        "roi_align": SimpleNamespace(forward=kernel, backward=kernel),
    }
    for name, stub in stubs.items():
        monkeypatch.setitem(sys.modules, f"resdet.ops.kernels.{name}", stub)
    monkeypatch.setattr(torch.cuda, "device", device)
    boxes, groups = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]]), torch.zeros(1, 1, dtype=torch.int64)
    assert nms._on_cuda(boxes, boxes[..., 3], groups, groups == 0, 0.5, 1)[1].all()
    assert roi_align._forward_on_cuda([boxes], boxes, groups, groups, [1.0], 2, 2, True) is groups
    assert roi_align._backward_on_cuda(boxes, boxes, groups, groups, 1, [8], [8], [1.0], 2, True) is groups
    assert not current
