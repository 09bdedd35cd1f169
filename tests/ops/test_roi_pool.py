"""Tests RoIPool, forward and backward, against torchvision."""

import pytest
import torch
from ops.scenes import SCALES, SIDES, pyramid, regions
from torchvision import ops as tv

from resdet.ops.roi_pool import roi_pool, roi_pool_backward, roi_pool_with_indices


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_roi_pool_equals_torchvision():
    feature = pyramid()[1].requires_grad_()
    boxes, _ = regions()
    found = roi_pool(feature, boxes, SCALES[1], 5)
    wanted = tv.roi_pool(feature.contiguous(), list(boxes), 5, SCALES[1]).view_as(found)
    assert torch.equal(found, wanted)
    grad = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(each, feature, grad)[0] for each in (found, wanted))
    torch.testing.assert_close(ours, theirs)
    half = roi_pool(feature.bfloat16(), boxes, SCALES[1], 5)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, wanted.bfloat16())  # rounding is monotonic, so the maximum is at the same pixel
    assert roi_pool(feature, boxes[:, :0], SCALES[1], 5).shape == (2, 0, 6, 5, 5)


def test_roi_pool_operators_pass_opcheck():
    feature, (boxes, _) = pyramid()[1].requires_grad_(), regions()
    torch.library.opcheck(roi_pool_with_indices, (feature, boxes, SCALES[1], 3))
    pooled, places = roi_pool_with_indices(feature.detach(), boxes, SCALES[1], 3)
    torch.library.opcheck(roi_pool_backward, (pooled, boxes, places, SCALES[1], *SIDES[1]))
