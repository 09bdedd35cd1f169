"""Matching of anchors and regions to objects, compared with torchvision's Matcher and computed by hand."""

import pytest
import torch
from torch import Tensor

from resdet.detection.heads.anchors import Anchors
from resdet.detection.heads.matcher import match_anchors, match_proposals, take
from resdet.structures import Targets

ops = pytest.importorskip("torchvision").ops


def boxes(count: int, seed: int, side: float = 100.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator).unbind()
    return torch.cat([0.6 * corner, 0.6 * corner + 0.1 + 0.3 * size], 1) * side


def targets(*images: Tensor, crowd: tuple = (), places: int = 0) -> Targets:
    """Builds targets; `crowd` lists (image, object) pairs, `places` adds padding."""
    shape = (len(images), max(map(len, images)) + places)
    record = Targets(
        torch.zeros(*shape, 4),
        torch.zeros(shape, dtype=torch.int64),
        torch.zeros(shape, dtype=torch.bool),
        torch.zeros(shape, dtype=torch.bool),
    )
    for i, found in enumerate(images):
        record.boxes[i, : len(found)], record.valid[i, : len(found)] = found, True
    for pair in crowd:
        record.crowd[pair] = True
    return record


def everything(matches_of: int, images: int) -> Tensor:
    return torch.ones(images, matches_of, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(5))
def test_anchors_are_matched_as_in_torchvision(seed):
    """Every object overlaps an anchor: without overlap torchvision makes all anchors positive."""
    from torchvision.models.detection._utils import Matcher

    anchors = boxes(400, seed)
    images = [boxes(7, 100 + seed), boxes(1, 200 + seed)]
    found = match_anchors(anchors, targets(*images, places=3), everything(400, 2), 0.6, 0.3)
    for i, objects in enumerate(images):
        expected = Matcher(0.6, 0.3, allow_low_quality_matches=True)(ops.box_iou(objects, anchors))
        assert (expected >= 0).any() and (expected == Matcher.BETWEEN_THRESHOLDS).any()
        assert torch.equal(found.positive[i], expected >= 0)
        assert torch.equal(found.negative[i], expected == Matcher.BELOW_LOW_THRESHOLD)
        assert torch.equal(found.objects[i][expected >= 0], expected[expected >= 0])


@pytest.mark.parametrize("seed", range(5))
def test_regions_are_matched_as_in_torchvision(seed):
    from torchvision.models.detection._utils import Matcher

    regions, objects = boxes(300, seed), boxes(9, 100 + seed)
    found = match_proposals(regions[None], targets(objects, places=2), everything(300, 1), 0.5, (0.0, 0.5))
    expected = Matcher(0.5, 0.5, allow_low_quality_matches=False)(ops.box_iou(objects, regions))
    assert 0 < (expected >= 0).sum() < 300
    assert torch.equal(found.positive[0], expected >= 0)
    assert torch.equal(found.negative[0], expected < 0)
    assert torch.equal(found.objects[0][expected >= 0], expected[expected >= 0])


def test_the_best_anchors_of_an_object_are_positive_at_any_iou():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [60, 0, 70, 10]])
    objects = torch.tensor([[9.0, 0, 21, 10], [200, 200, 210, 210]])  # overlaps two anchors equally; overlaps none
    found = match_anchors(anchors, targets(objects), everything(3, 1), 0.7, 0.3)
    assert found.positive.tolist() == [[True, True, False]]
    assert found.negative.tolist() == [[False, False, True]]
    assert found.objects[0, :2].tolist() == [0, 0]


def test_an_anchor_that_is_nearly_the_best_of_an_object_is_not_positive():
    anchors = torch.tensor([[0.0, 0, 100, 60], [0, 0, 100, 59.99]])
    found = match_anchors(anchors, targets(torch.tensor([[0.0, 0, 100, 100]])), everything(2, 1), 0.7, 0.3)
    assert found.positive.tolist() == [[True, False]] and not found.negative.any()


def test_background_can_have_a_lower_iou_bound():
    """Fast R-CNN, section 2.3: background has an IoU from 0.1 up to 0.5."""
    objects = torch.tensor([[0.0, 0, 10, 10]])
    regions = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 10, 0.5], [50, 50, 60, 60]]])
    bounded = match_proposals(regions, targets(objects), everything(4, 1), 0.5, (0.1, 0.5))
    assert bounded.positive.tolist() == [[True, False, False, False]]
    assert bounded.negative.tolist() == [[False, True, False, False]]
    free = match_proposals(regions, targets(objects), everything(4, 1), 0.5, (0.0, 0.5))
    assert free.negative.tolist() == [[False, True, True, True]]


def test_regions_between_the_iou_bounds_are_ignored():
    objects, regions = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[[0.0, 0, 10, 5], [0, 0, 10, 2], [0, 0, 10, 9]]])
    found = match_proposals(regions, targets(objects), everything(3, 1), 0.7, (0.0, 0.3))
    assert found.positive.tolist() == [[False, False, True]] and found.negative.tolist() == [[False, True, False]]


def test_lower_bounds_of_ious_belong_to_their_range_and_upper_bounds_do_not():
    objects = torch.tensor([[0.0, 0, 10, 10]])
    candidates = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 2.5]])  # IoUs of 1, 1/2 and 1/4
    record, every = targets(objects), everything(3, 1)
    found = match_anchors(candidates, record, every, 0.5, 0.25)
    assert found.positive.tolist() == [[True, True, False]] and not found.negative.any()
    found = match_proposals(candidates[None], record, every, 0.5, (0.25, 0.5))
    assert found.positive.tolist() == [[True, True, False]] and found.negative.tolist() == [[False, False, True]]
    found = match_proposals(candidates[None], record, every, 0.75, (0.0, 0.5))
    assert found.positive.tolist() == [[True, False, False]] and found.negative.tolist() == [[False, False, True]]


def test_a_positive_region_is_not_background():
    """The range of background reaches above the IoU of positive regions, as the default does below an IoU of 0.5."""
    regions = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 4.5], [0, 0, 10, 2]]])
    found = match_proposals(regions, targets(torch.tensor([[0.0, 0, 10, 10]])), everything(3, 1), 0.4, (0.0, 0.5))
    assert found.positive.tolist() == [[True, True, False]] and found.negative.tolist() == [[False, False, True]]


def test_boxes_in_a_crowd_are_ignored_and_crowds_match_no_box():
    """The crowd is the left half; a box is in it if more than half of the box's area is."""
    objects = torch.tensor([[0.0, 0, 50, 100], [60, 60, 80, 80]])
    candidates = torch.tensor([[0.0, 0, 50, 100], [10, 10, 20, 20], [40, 0, 58, 10], [40, 0, 60, 10], [60, 60, 80, 80]])
    record = targets(objects, crowd=((0, 0),))
    for found in (
        match_anchors(candidates, record, everything(5, 1), 0.7, 0.3),
        match_proposals(candidates[None], record, everything(5, 1), 0.5, (0.0, 0.5)),
    ):
        assert found.positive.tolist() == [[False, False, False, False, True]]
        assert found.negative.tolist() == [[False, False, False, True, False]]
        assert found.objects[0, 4] == 1


def test_without_objects_all_boxes_are_background():
    candidates = boxes(20, 0)
    record = targets(torch.zeros(0, 4), places=4)
    for found in (
        match_anchors(candidates, record, everything(20, 1), 0.7, 0.3),
        match_proposals(candidates[None], record, everything(20, 1), 0.5, (0.0, 0.5)),
    ):
        assert not found.positive.any() and found.negative.all()


def test_unusable_boxes_are_ignored():
    candidates, usable = boxes(50, 0), torch.rand(1, 50, generator=torch.Generator().manual_seed(1)) < 0.5
    record = targets(boxes(5, 1))
    for found in (
        match_anchors(candidates, record, usable, 0.5, 0.3),
        match_proposals(candidates[None], record, usable, 0.5, (0.0, 0.5)),
    ):
        assert (found.positive & usable).any() and (found.negative & usable).any()
        assert not ((found.positive | found.negative) & ~usable).any()


def test_the_best_of_the_usable_anchors_is_positive():
    """An object's best anchor inside the image is positive if anchors across the border are dropped first.

    Faster R-CNN's setting: stride 16 on 1000 x 600 pixels. For the object at the left border the best anchor crosses
    the border (IoU 0.732), and the best one inside (0.687) is below 0.7.
    """
    make = Anchors([(128, 256, 512)], (0.5, 1.0, 2.0), rounded=False)
    (anchors,) = make([torch.zeros(1, 1, 38, 63)], [16], (600, 1000))
    object = torch.tensor([[0.0, 120, 150, 200]])
    usable = ((anchors[:, :2] >= 0) & (anchors[:, 2:] <= torch.tensor([1000, 600]))).all(1)[None]
    overlaps = ops.box_iou(object, anchors)
    assert overlaps.max().item() == pytest.approx(0.732, abs=1e-3)
    assert overlaps[usable].max().item() == pytest.approx(0.687, abs=1e-3)
    crowded = targets(torch.cat([object, torch.tensor([[400.0, 200, 600, 400]])]), crowd=((0, 1),), places=2)
    for record in (targets(object), crowded):
        found = match_anchors(anchors, record, usable, 0.7, 0.3)
        best = usable & (overlaps == overlaps[usable].max())
        assert torch.equal(found.positive, best) and best.any()
        assert (found.objects[best] == 0).all()
    nowhere = match_anchors(anchors, targets(object), usable & False, 0.7, 0.3)
    assert not nowhere.positive.any() and not nowhere.negative.any()


def test_take_gathers_rows_per_image():
    values, indices = torch.arange(24.0).view(2, 4, 3), torch.tensor([[3, 0], [1, 1]])
    assert torch.equal(take(values, indices), torch.stack([values[0, [3, 0]], values[1, [1, 1]]]))
    assert torch.equal(take(values[..., 0], indices), torch.tensor([[9.0, 0], [15, 15]]))
