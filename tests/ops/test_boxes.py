"""Tests box operators against torchvision, and that degenerate boxes give finite results."""

import pytest
import torch
from ops.scenes import random_boxes, with_degenerate
from torchvision import ops as tv
from torchvision.models.detection._utils import BoxCoder

from resdet.ops import boxes as ours

WEIGHTS = (10.0, 8.0, 5.0, 4.0)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_areas_and_ious_equal_torchvision():
    a, b = with_degenerate(random_boxes(2, 50)), with_degenerate(random_boxes(2, 30))
    b[:, 10:20] = a[:, :10]
    torch.testing.assert_close(ours.area(a), torch.stack([tv.box_area(boxes) for boxes in a]))
    expected = torch.stack([tv.box_iou(*pair) for pair in zip(a, b)]).nan_to_num(0)
    torch.testing.assert_close(ours.iou(a, b), expected)


def test_overlaps_of_known_boxes():
    a = torch.tensor([[0.0, 0, 4, 4], [0, 0, 0, 0]])
    b = torch.tensor([[2.0, 0, 6, 4], [0, 0, 8, 8], [0, 0, 0, 0]])
    torch.testing.assert_close(ours.iou(a, b), torch.tensor([[1 / 3, 1 / 4, 0], [0, 0, 0]]))
    torch.testing.assert_close(ours.iou_and_coverage(b, a)[1].mT, torch.tensor([[1 / 2, 1, 0], [0, 0, 0]]))


def test_boxes_with_swapped_corners_have_no_area():
    swapped = torch.tensor([[4.0, 0, 0, 2], [0, 2, 4, 0], [4, 2, 0, 0]])
    assert ours.area(swapped).tolist() == [0, 0, 0]
    assert ours.iou(swapped, torch.tensor([[0.0, 0, 4, 4]])).flatten().tolist() == [0, 0, 0]


def test_overlaps_broadcast_anchors_over_images():
    anchors, objects = random_boxes(20), random_boxes(3, 5)
    assert ours.iou(anchors, objects).shape == (3, 20, 5)
    torch.testing.assert_close(ours.iou(anchors, objects)[2], tv.box_iou(anchors, objects[2]))
    assert ours.iou(anchors[:0], objects).shape == (3, 0, 5)


def test_clipping_equals_torchvision():
    boxes = with_degenerate(random_boxes(2, 20))
    sizes = torch.tensor([[100.0, 60.0], [37.0, 120.0]])
    expected = torch.stack([tv.clip_boxes_to_image(each, tuple(size)) for each, size in zip(boxes, sizes.tolist())])
    torch.testing.assert_close(ours.clip(boxes, sizes), expected)
    by_class = boxes.view(2, 5, 4, 4)
    torch.testing.assert_close(ours.clip(by_class, sizes), expected.view(2, 5, 4, 4))


def test_coding_equals_torchvision():
    anchors, boxes = random_boxes(40), random_boxes(40)
    coder = BoxCoder(WEIGHTS)
    torch.testing.assert_close(ours.encode(anchors, boxes, WEIGHTS), coder.encode_single(boxes, anchors))
    deltas = torch.randn(40, 3, 4) * 20  # for three classes; many are clamped
    expected = coder.decode_single(deltas.flatten(1), anchors).view(40, 3, 4)
    torch.testing.assert_close(ours.decode(anchors[:, None], deltas, WEIGHTS), expected)


def test_decoding_inverts_encoding_in_float32():
    corner = torch.rand(2, 2, 40, 2) * 900
    anchors, boxes = torch.cat([corner, corner + 10 + torch.rand(2, 2, 40, 2) * 400], -1)  # no ratio is clamped
    torch.testing.assert_close(ours.decode(anchors, ours.encode(anchors, boxes)), boxes, atol=1e-3, rtol=1e-4)
    assert ours.decode(anchors.bfloat16(), torch.zeros(2, 40, 4).bfloat16()).dtype == torch.float32


def test_codes_of_boxes_without_area_are_finite():
    boxes = with_degenerate(random_boxes(1, 10))[0]
    assert ours.encode(boxes[:, None], boxes[None]).isfinite().all()
    assert ours.decode(boxes, torch.full((10, 4), 1e4)).isfinite().all()


@pytest.mark.parametrize(
    "similarity, loss", [(ours.giou, tv.generalized_box_iou_loss), (ours.diou, tv.distance_box_iou_loss)]
)
def test_giou_and_diou_equal_torchvision_with_gradients(similarity, loss):
    a, b = random_boxes(2, 30), random_boxes(2, 30)
    a[0, :5] = b[0, :5]
    ours_a, theirs_a = a.clone().requires_grad_(), a.clone().requires_grad_()
    found, expected = similarity(ours_a, b), 1 - loss(theirs_a, b)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours_a.grad, theirs_a.grad)
    nothing = torch.zeros(3, 4)
    assert similarity(nothing, nothing).isfinite().all()


def test_boxes_below_a_pixel_are_encoded_exactly():
    anchors = torch.tensor([[10.0, 10, 10.25, 10.5], [0, 0, 40, 40]])
    boxes = torch.tensor([[10.125, 10, 10.25, 11], [5, 5, 5.25, 5.125]])
    torch.testing.assert_close(ours.decode(anchors, ours.encode(anchors, boxes, WEIGHTS), WEIGHTS), boxes)
