"""Tests the operators on a GPU against those on the CPU; run by `make test-gpu`."""

from functools import partial

import pytest
import torch
from ops.references import nms_reference, roi_align_reference
from ops.scenes import SCALES, SIDES, assembled, candidates, pyramid, random_boxes, regions

from resdet.ops.masks import crop_masks, paste
from resdet.ops.nms import nms, nms_op
from resdet.ops.rle import encode
from resdet.ops.roi_align import assign_levels, roi_align, roi_align_op
from resdet.ops.roi_pool import roi_pool
from resdet.ops.sampler import sample

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def cuda(*tensors):
    return [tensor.detach().cuda() for tensor in tensors]


@pytest.mark.parametrize("count", [1, 64, 65, 1000, 5000])
def test_nms(count):
    given = candidates(count)
    found, wanted = nms(*cuda(*given), 0.5, 100), nms_reference(*given, 0.5, 100)
    assert torch.equal(found[0].cpu(), wanted[0])
    assert torch.equal(found[1].cpu(), wanted[1])


def test_nms_without_candidates():
    given = cuda(*candidates(20))
    assert not nms(*given[:3], given[3] & False, 0.5, 5)[1].any()
    assert nms(*(each[:, :0] for each in given), 0.5, 5)[0].shape == (2, 5)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("sampling, aligned", [(2, True), (2, False), (0, True)])
@pytest.mark.parametrize("channels", [1, 6, 300])
def test_roi_align_and_its_gradient(dtype, tolerance, sampling, aligned, channels):
    features = pyramid(channels, dtype=dtype)
    boxes, levels = regions(40)
    on_gpu = [feature.requires_grad_() for feature in cuda(*features)]
    found = roi_align(on_gpu, *cuda(boxes, levels), SCALES, 7, sampling, aligned)
    wide = [feature.float().requires_grad_() for feature in features]
    wanted = roi_align_reference(wide, boxes, levels, SCALES, 7, sampling, aligned)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float().cpu(), wanted, atol=tolerance, rtol=tolerance)
    grad = torch.randn_like(wanted).to(dtype)
    pairs = zip(torch.autograd.grad(found, on_gpu, grad.cuda()), torch.autograd.grad(wanted, wide, grad.float()))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.float().cpu(), theirs, atol=4 * tolerance, rtol=tolerance)


def test_roi_align_of_regions_of_any_image():
    """Mixes regions of two images in one row, like the packed positives of a batch."""
    features = [feature.requires_grad_() for feature in pyramid(32)]
    boxes, levels = (each.flatten(0, 1)[None] for each in regions(40))
    images = torch.randint(2, levels.shape)
    wanted = roi_align(features, boxes, levels, SCALES, 14, 2, True, images)
    on_gpu = [feature.detach().cuda().requires_grad_() for feature in features]
    found = roi_align(on_gpu, *cuda(boxes, levels), SCALES, 14, 2, True, images.cuda())
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-4, rtol=1e-4)
    grad = torch.randn_like(wanted)
    pairs = zip(torch.autograd.grad(found, on_gpu, grad.cuda()), torch.autograd.grad(wanted, features, grad))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.cpu(), theirs, atol=4e-4, rtol=1e-4)


def test_roi_align_of_contiguous_maps_and_of_no_regions():
    features, (boxes, levels) = cuda(*pyramid()), cuda(*regions())
    found = roi_align([each.contiguous() for each in features], boxes, levels, SCALES, 7)
    torch.testing.assert_close(found, roi_align(features, boxes, levels, SCALES, 7))
    assert roi_align(features, boxes[:, :0], levels[:, :0], SCALES, 7).shape == (2, 0, 6, 7, 7)


def test_the_operators_pass_opcheck():
    features = [feature.requires_grad_() for feature in cuda(*pyramid())]
    boxes, levels = cuda(*regions())
    images = torch.randint(2, levels.shape, device="cuda")
    torch.library.opcheck(roi_align_op, (features, boxes, images, levels, SCALES, 3, 2, True))
    torch.library.opcheck(nms_op, (*cuda(*candidates(20)), 0.5, 5))


def test_roi_pool():
    feature, (boxes, _) = pyramid()[1].requires_grad_(), regions()
    on_gpu = feature.detach().cuda().requires_grad_()
    wanted, found = roi_pool(feature, boxes, SCALES[1], 5), roi_pool(on_gpu, boxes.cuda(), SCALES[1], 5)
    torch.testing.assert_close(found.cpu(), wanted)
    grad = torch.randn_like(wanted)
    (ours,), (theirs,) = torch.autograd.grad(found, on_gpu, grad.cuda()), torch.autograd.grad(wanted, feature, grad)
    torch.testing.assert_close(ours.cpu(), theirs)


def test_masks():
    boxes, regions_of = random_boxes(2, 5), random_boxes(2, 12)
    given = torch.randint(0, 256, (2, 5, 56, 56), dtype=torch.uint8), boxes, torch.randint(0, 5, (2, 12)), regions_of
    torch.testing.assert_close(crop_masks(*cuda(*given), 28).cpu(), crop_masks(*given, 28), atol=1e-4, rtol=1e-4)
    masks, draw = torch.rand(12, 28, 28), partial(assembled(paste), height=128, width=160)
    on_cpu, on_gpu = draw(masks, regions_of[0]), draw(*cuda(masks, regions_of[0]))
    assert (on_cpu != on_gpu).float().mean() < 1e-4
    (part,) = paste(*cuda(masks, regions_of[0]), 128, 160)
    assert encode(part.masks, (128, 160)) == encode(part.masks.cpu(), (128, 160))


def test_the_operators_do_not_synchronize_with_the_device():
    features = [feature.requires_grad_() for feature in cuda(*pyramid())]
    given = cuda(*candidates(200))

    def step():
        indices, kept = nms(*given, 0.5, 50)
        boxes = given[0].gather(1, indices[..., None].expand(-1, -1, 4))
        indices, _, _ = sample(kept, ~kept, 20, 10)
        boxes = boxes.gather(1, indices[..., None].expand(-1, -1, 4))
        for sampling in (2, 0):
            roi_align(features, boxes, assign_levels(boxes, len(SIDES)), SCALES, 7, sampling).sum().backward()
        roi_pool(features[1], boxes, SCALES[1], 7).sum().backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
