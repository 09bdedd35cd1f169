"""Tests batched, grouped NMS against torchvision, one image and one group at a time."""

import pytest
import torch
from ops.references import nms_reference
from ops.scenes import candidates
from torch import Tensor
from torchvision import ops as tv

from resdet.ops.nms import nms, nms_by_level, nms_op

IMPLEMENTATIONS = [nms, nms_reference]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def expected(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> list[int]:
    """Returns the indices that torchvision's NMS keeps in one image, applied to each group separately."""
    kept = []
    for group in groups.unique():
        members = ((groups == group) & valid).nonzero()[:, 0]
        kept += members[tv.nms(boxes[members], scores[members], threshold)].tolist()
    return sorted(kept, key=lambda i: (-scores[i].item(), i))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("count", [1, 2, 64, 65, 150])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_kept_boxes_equal_torchvision(implementation, count, threshold):
    given = candidates(count)
    keep = 40
    indices, kept = implementation(*given, threshold, keep)
    assert indices.shape == kept.shape == (2, keep)
    for image, (found, marked) in enumerate(zip(indices.tolist(), kept)):
        wanted = expected(*(each[image] for each in given), threshold)[:keep]
        assert marked.tolist() == [True] * len(wanted) + [False] * (keep - len(wanted))
        assert found == wanted + [0] * (keep - len(wanted))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_large_group_numbers_lose_no_precision(implementation):
    """Uses an IoU slightly above 0.7, which a float32 offset of many image widths would round away."""
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 7.001]]]).repeat(1, 2, 1)
    groups = torch.tensor([[0, 0, 100_000, 100_000]])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    indices, kept = implementation(boxes, scores, groups, torch.ones(1, 4, dtype=torch.bool), 0.7, 4)
    assert indices.tolist() == [[0, 2, 0, 0]]
    assert kept.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("threshold", [0.3, 0.4, 0.6, 0.7])
def test_an_iou_equal_to_the_threshold_suppresses_nothing(implementation, threshold):
    """Uses thresholds that float32 rounds up (0.3, 0.4, 0.6) or down (0.7)."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, round(10 * threshold)]]])
    groups, valid = torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool)
    indices, kept = implementation(boxes, torch.tensor([[0.9, 0.8]]), groups, valid, threshold, 2)
    assert indices.tolist() == [[0, 1]] and kept.all()
    _, kept = implementation(boxes, torch.tensor([[0.9, 0.8]]), groups, valid, threshold - 1e-6, 2)
    assert kept.tolist() == [[True, False]]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_padding_is_ignored(implementation):
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 10, 10]]])
    groups = torch.zeros(1, 3, dtype=torch.int64)
    scores = torch.tensor([[0.9, 0.5, 0.4]])
    indices, kept = implementation(boxes, scores, groups, torch.tensor([[False, True, True]]), 0.5, 3)
    assert indices.tolist() == [[1, 0, 0]]
    assert kept.tolist() == [[True, False, False]]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_candidates(implementation):
    boxes, scores, groups, valid = candidates(20)
    for given in ((boxes, scores, groups, valid & False), (boxes[:, :0], scores[:, :0], groups[:, :0], valid[:, :0])):
        indices, kept = implementation(*given, 0.5, 5)
        assert indices.tolist() == [[0] * 5] * 2
        assert not kept.any()


def test_inputs_that_require_gradients():
    boxes, scores, groups, valid = candidates(20)
    indices, _ = nms(boxes.requires_grad_(), scores.requires_grad_(), groups, valid, 0.5, 5)
    assert not indices.requires_grad


def test_the_operator_passes_opcheck():
    torch.library.opcheck(nms_op, (*candidates(20), 0.5, 5))


@pytest.mark.parametrize("keep", [5, 40, 500])
def test_levels_are_suppressed_as_groups(keep):
    """Compares with one NMS by groups over all levels, including ties, which follow the order of the levels."""
    levels = [candidates(count) for count in (150, 30, 1)]
    boxes, scores, valid = ([level[field] for level in levels] for field in (0, 1, 3))
    groups = torch.cat([torch.full_like(level[2], number) for number, level in enumerate(levels)], 1)
    indices, kept = nms_reference(torch.cat(boxes, 1), torch.cat(scores, 1), groups, torch.cat(valid, 1), 0.5, keep)
    best_boxes, best_scores, best_kept = nms_by_level(boxes, scores, valid, 0.5, keep)
    assert torch.equal(best_kept, kept)
    assert torch.equal(best_boxes[kept], torch.cat(boxes, 1).gather(1, indices[..., None].expand(-1, -1, 4))[kept])
    assert torch.equal(best_scores[kept], torch.cat(scores, 1).gather(1, indices)[kept])
