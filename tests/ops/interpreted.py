"""Tests the Triton kernels on CPU tensors in Triton's interpreter; test_kernels.py runs this file."""

import pytest
import torch
from ops.references import nms_reference, roi_align_reference
from ops.scenes import NOWHERE, SCALES, SIDES, candidates, pyramid, random_boxes
from torch import Tensor

from resdet.ops.kernels.nms import survivors
from resdet.ops.kernels.roi_align import backward, forward
from resdet.ops.nms import _best


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def few_regions() -> tuple[Tensor, Tensor, Tensor]:
    """Returns small boxes, as the interpreter takes 1 ms per sample, with images in mixed order and two per level."""
    boxes = random_boxes(2, 3, extent=30)
    boxes[0, 0], boxes[1, 1] = torch.tensor(NOWHERE[0]), torch.tensor(NOWHERE[3])
    return boxes, torch.tensor([[0, 1, 0], [1, 0, 1]]), torch.arange(3).repeat(2, 1)


@pytest.mark.parametrize("count", [1, 64, 65, 150])
def test_nms(count):
    given = candidates(count)
    found, wanted = _best(survivors, *given, 0.4, 40), nms_reference(*given, 0.4, 40)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("sampling, aligned, channels", [(2, True, 5), (2, False, 1), (0, True, 5), (0, False, 5)])
def test_roi_align(sampling, aligned, channels):
    features = [feature.requires_grad_() for feature in pyramid(channels)]
    boxes, images, levels = few_regions()
    wanted = roi_align_reference(features, boxes, levels, SCALES, 2, sampling, aligned, images)
    found = forward([feature.detach() for feature in features], boxes, images, levels, SCALES, 2, sampling, aligned)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    grad = torch.randn_like(wanted)
    grads = backward(grad, boxes, images, levels, 2, *zip(*SIDES), SCALES, sampling, aligned)
    for ours, theirs in zip(grads, torch.autograd.grad(wanted, features, grad)):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_roi_align_in_half_precision_and_in_several_blocks(monkeypatch):
    monkeypatch.setattr("resdet.ops.kernels.roi_align.MAX_CHANNELS", 4)
    features = pyramid(6, dtype=torch.float16)
    boxes, images, levels = few_regions()
    found = forward(features, boxes, images, levels, SCALES, 2, 2, True)
    wanted = roi_align_reference([feature.float() for feature in features], boxes, levels, SCALES, 2, images=images)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), wanted, atol=2e-3, rtol=2e-3)


def test_roi_align_without_regions():
    nothing, none = torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64)
    assert forward(pyramid(), nothing, none, none, SCALES, 7, 2, True).shape == (2, 0, 6, 7, 7)
    grads = backward(torch.zeros(2, 0, 6, 7, 7), nothing, none, none, 2, *zip(*SIDES), SCALES, 2, True)
    assert [tuple(grad.shape) for grad in grads] == [(2, 6, *sides) for sides in SIDES]
    assert not any(grad.any() for grad in grads)
