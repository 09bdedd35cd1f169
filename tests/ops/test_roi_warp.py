"""Tests RoI warping against torchvision, a ramp with known values and numerical gradients."""

import pytest
import torch
from torch.nn import functional as F

from resdet.ops.roi_warp import roi_warp

BOXES = [[[3.0, 5.0, 50.0, 61.0], [20.3, 0.4, 31.7, 90.2]], [[0.0, 0.0, 128.0, 96.0], [70.1, 33.3, 75.9, 36.4]]]


def maps(channels: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Returns maps of stride 8 of two images of 96 × 128 pixels."""
    return torch.randn(2, channels, 12, 16, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("size", [1, 3, 14])
def test_roi_warp_equals_max_pooled_roi_align(size):
    ops = pytest.importorskip("torchvision").ops
    features, boxes = maps(), torch.tensor(BOXES)
    aligned = ops.roi_align(features, list(boxes), 2 * size, 1 / 8, sampling_ratio=1, aligned=True)
    found = roi_warp(features, boxes, 1 / 8, size)
    assert found.shape == (4, 3, size, size)
    assert torch.allclose(found, F.max_pool2d(aligned, 2), atol=1e-5)


def test_values_on_a_ramp():
    """Warps f(column, row) = column + 10 · row at stride 1, with pixel centers at half-integers."""
    ramp = (torch.arange(8.0) + 10 * torch.arange(8.0)[:, None])[None, None]
    found = roi_warp(ramp, torch.tensor([[[1.0, 2.0, 5.0, 6.0]]]), 1.0, 2)
    # Samples are one pixel apart, x from 1.5 to 4.5, y from 2.5 to 5.5; the maximum of each 2 × 2 is the last.
    columns, rows = torch.tensor([2.5, 4.5]) - 0.5, torch.tensor([3.5, 5.5]) - 0.5
    assert torch.allclose(found[0, 0], columns + 10 * rows[:, None])


def test_samples_outside_the_map_take_border_values():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    found = roi_warp(ramp, torch.tensor([[[-40.0, 2.0, -20.0, 4.0], [20.0, 2.0, 30.0, 4.0]]]), 1.0, 2)
    assert (found[0] == 0).all() and (found[1] == 7).all()


def test_gradients_of_features_and_boxes():
    torch.manual_seed(0)
    features = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[[3.1, 5.2, 30.3, 27.7], [-4.2, 0.4, 11.7, 36.1]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, b: roi_warp(f, b, 1 / 8, 2), (features, boxes))


def test_boxes_without_area_sample_one_point():
    features = maps().requires_grad_()
    boxes = torch.tensor([[[20.0, 12.0, 20.0, 12.0]], [[0.0] * 4]]).requires_grad_()
    found = roi_warp(features, boxes, 1 / 8, 2)
    assert torch.allclose(found[0], features[0, :, 1, 2, None, None].expand(3, 2, 2))
    found.sum().backward()
    assert features.grad.isfinite().all() and boxes.grad.isfinite().all()


def test_no_boxes_give_no_features():
    assert roi_warp(maps().bfloat16(), torch.zeros(2, 0, 4), 1 / 8, 5).shape == (0, 3, 5, 5)


def test_coordinates_are_float32_with_bfloat16_features():
    """Uses a position beyond 256, where bfloat16 has no fractions."""
    wide = torch.linspace(0, 1, 600).expand(1, 1, 4, 600)
    boxes = torch.tensor([[[500.3, 0.0, 510.3, 4.0]]])
    exact, found = roi_warp(wide, boxes, 1.0, 3), roi_warp(wide.bfloat16(), boxes, 1.0, 3)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found, exact.bfloat16(), atol=0.004)


def test_gradient_ascent_moves_a_box_to_a_blob():
    """Optimizes the center of a box by the gradient with respect to boxes, which RoIAlign and RoIPool lack."""
    x, y = torch.arange(32.0) + 0.5, torch.arange(32.0)[:, None] + 0.5
    blob = torch.exp(-((x - 20) ** 2 + (y - 12) ** 2) / 50)[None, None]
    center = torch.tensor([12.0, 18.0], requires_grad=True)
    optimizer = torch.optim.Adam([center], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        box = torch.cat([center - 3, center + 3])[None, None]
        (-roi_warp(blob, box, 1.0, 4).mean()).backward()
        optimizer.step()
    assert torch.allclose(center, torch.tensor([20.0, 12.0]), atol=0.5)
