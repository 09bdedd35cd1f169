"""Tests RoIAlign, forward and backward, and the assignment of levels against torchvision."""

import pytest
import torch
from ops.references import roi_align_reference
from ops.scenes import SCALES, SIDES, pyramid, random_boxes, regions
from torch import Tensor
from torchvision import ops as tv
from torchvision.ops.poolers import LevelMapper

from resdet.ops.roi_align import (
    assign_levels,
    roi_align,
    roi_align_backward,
    roi_align_op,
)

IMPLEMENTATIONS = [roi_align, roi_align_reference]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def expected(features: list[Tensor], boxes: Tensor, levels: Tensor, size: int, sampling: int, aligned: bool) -> Tensor:
    """Computes RoIAlign by torchvision, one region at a time."""
    out = [
        tv.roi_align(
            features[level][image : image + 1].contiguous(),
            [boxes[image, i, None]],
            size,
            SCALES[level],
            sampling,
            aligned,
        )
        for image, of_image in enumerate(levels.tolist())
        for i, level in enumerate(of_image)
    ]
    return torch.cat(out).view(*levels.shape, *out[0].shape[1:])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("sampling", [2, 3, 0])
@pytest.mark.parametrize("aligned", [True, False])
def test_values_and_gradients_equal_torchvision(implementation, sampling, aligned):
    features = [feature.requires_grad_() for feature in pyramid()]
    boxes, levels = regions()
    found = implementation(features, boxes, levels, SCALES, 5, sampling, aligned)
    wanted = expected(features, boxes, levels, 5, sampling, aligned)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    grad = torch.randn_like(wanted)
    pairs = zip(torch.autograd.grad(found, features, grad), torch.autograd.grad(wanted, features, grad))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("sampling", [2, 0])
def test_regions_of_any_image_in_any_order(implementation, sampling):
    """Mixes regions of two of three images in one row and compares values and gradients with torchvision."""
    features = [feature.requires_grad_() for feature in pyramid(images=3)]
    boxes, levels = (each.flatten(0, 1)[None] for each in regions())
    images = 1 + torch.randint(2, levels.shape)
    found = implementation(features, boxes, levels, SCALES, 5, sampling, True, images)
    rois = torch.cat([images[0, :, None], boxes[0]], 1)
    pooled = [tv.roi_align(x, rois, 5, scale, sampling, True) for x, scale in zip(features, SCALES)]
    wanted = torch.stack(pooled)[levels[0], torch.arange(len(rois))][None]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    grad = torch.randn_like(wanted)
    pairs = zip(torch.autograd.grad(found, features, grad), torch.autograd.grad(wanted, features, grad))
    for ours, theirs in pairs:
        assert not ours[0].any()
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sampling", [2, 0])
def test_half_precision_is_rounded_once(dtype, sampling):
    """Allows only the error of rounding each result and each weight to the type."""
    features = [feature.requires_grad_() for feature in pyramid(dtype=dtype)]
    boxes, levels = regions()
    found = roi_align(features, boxes, levels, SCALES, 5, sampling)
    assert found.dtype == dtype
    wide = [feature.detach().float().requires_grad_() for feature in features]
    wanted = expected(wide, boxes, levels, 5, sampling, True)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(found.float(), wanted, atol=2 * step, rtol=step)
    grad = torch.randn_like(found)
    pairs = zip(torch.autograd.grad(found, features, grad), torch.autograd.grad(wanted, wide, grad.float()))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.float(), theirs, atol=4 * step, rtol=step)


def test_output_is_channels_last_for_any_memory_format():
    features, (boxes, levels) = pyramid(), regions()
    found = roi_align(features, boxes, levels, SCALES, 5)
    assert found.permute(0, 1, 3, 4, 2).is_contiguous()
    torch.testing.assert_close(roi_align([each.contiguous() for each in features], boxes, levels, SCALES, 5), found)


def test_no_regions_and_levels_without_regions():
    features = [feature.requires_grad_() for feature in pyramid()]
    nothing = roi_align(features, torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), SCALES, 7)
    assert nothing.shape == (2, 0, 6, 7, 7)
    nothing.sum().backward()
    assert all(not feature.grad.any() for feature in features)
    boxes, levels = regions()
    roi_align(features, boxes, levels * 0 + 1, SCALES, 7).sum().backward()
    assert [bool(feature.grad.any()) for feature in features] == [False, True, False]


@pytest.mark.parametrize("sampling", [2, 0])
def test_nan_boxes_do_not_affect_other_boxes(sampling):
    """Checks that one NaN box does not change the others; a diverging run must get as far as the report of its loss."""
    features, (boxes, levels) = pyramid(), regions()
    broken = boxes.clone()
    broken[0, 3] = torch.nan
    levels[0, 3] = assign_levels(broken, len(SIDES))[0, 3]
    found = roi_align(features, broken, levels, SCALES, 5, sampling)
    others = torch.arange(boxes.shape[1]) != 3
    torch.testing.assert_close(found[0, others], roi_align(features, boxes, levels, SCALES, 5, sampling)[0, others])


@pytest.mark.parametrize("sampling", [1, 2])
def test_gradients_equal_numerical_gradients(sampling):
    features = [torch.randn(1, 2, *sides, dtype=torch.float64, requires_grad=True) for sides in ((6, 8), (3, 4))]
    boxes = random_boxes(1, 3, extent=30).double()
    levels = torch.tensor([[0, 1, 0]])
    torch.autograd.gradcheck(lambda *maps: roi_align(list(maps), boxes, levels, SCALES[:2], 3, sampling), features)


def test_a_linear_ramp_is_sampled_exactly():
    """Pools f(x, y) = x + 10 y, whose bilinear mean over a bin inside the map is the value at the bin's center."""
    y, x = torch.meshgrid(torch.arange(20.0) + 0.5, torch.arange(30.0) + 0.5, indexing="ij")
    box = torch.tensor([[[4.0, 12.0, 84.0, 60.0]]])
    found = roi_align([(x + 10 * y)[None, None]], box, torch.zeros(1, 1, dtype=torch.int64), [0.25], 4)
    centres_x, centres_y = 1 + 5 * (torch.arange(4) + 0.5), 3 + 3 * (torch.arange(4) + 0.5)
    torch.testing.assert_close(found[0, 0, 0], centres_x + 10 * centres_y[:, None])


def test_levels_equal_torchvision():
    sides = 2 ** torch.empty(2, 200).uniform_(0, 11)
    boxes = torch.cat([torch.zeros(2, 200, 2), sides[..., None] * torch.tensor([0.5, 2.0])], -1)
    boxes[0, :4] = torch.tensor([[0.0, 0, 224, 224], [0, 0, 112, 112], [0, 0, 448, 448], [0, 0, 0, 0]])
    wanted = torch.stack([LevelMapper(2, 5)([image]) for image in boxes])
    assert torch.equal(assign_levels(boxes, 4), wanted)
    assert wanted[0, :4].tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("side", [112.0, 224.0, 448.0])
def test_levels_of_boxes_near_a_border_equal_torchvision(side):
    """A box that is too small by less than a millionth is still of the coarser level, as in torchvision."""
    sides = side * (1 - 0.5 ** torch.arange(8, 24))
    boxes = torch.stack([torch.zeros(16), torch.zeros(16), sides, sides], 1)[None]
    found = assign_levels(boxes, 4)
    assert torch.equal(found[0], LevelMapper(2, 5)([boxes[0]])) and len(found.unique()) == 2


@pytest.mark.parametrize("sampling", [2, 0])
def test_roi_align_operators_pass_opcheck(sampling):
    features = [feature.requires_grad_() for feature in pyramid()]
    boxes, levels = regions()
    images = torch.randint(2, (2, 9))
    torch.library.opcheck(roi_align_op, (features, boxes, images, levels, SCALES, 3, sampling, True))
    heights, widths = zip(*SIDES)
    grad = torch.randn(2, 9, 6, 3, 3)
    torch.library.opcheck(roi_align_backward, (grad, boxes, images, levels, 2, heights, widths, SCALES, sampling, True))
