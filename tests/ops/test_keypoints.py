"""Tests the encoding and decoding of keypoints in heatmaps against torchvision and values computed by hand."""

import pytest
import torch

from resdet.ops.keypoints import heatmap_cells, locate

theirs = pytest.importorskip("torchvision.models.detection.roi_heads")


def boxes_of(seed: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = 50 * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + 90 * torch.rand(count, 2, generator=generator)], 1)


@pytest.mark.parametrize("seed", range(3))
def test_cells_equal_torchvision(seed):
    """Uses points inside, outside and on the edges of the RoIs, with all visibilities."""
    boxes, generator = boxes_of(seed, 40), torch.Generator().manual_seed(seed)
    share = (1.4 * torch.rand(40, 7, 2, generator=generator) - 0.2).round(decimals=1)
    points = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
    points[:, 0] = boxes[:, 2:]
    points[:, 1] = boxes[:, :2]
    keypoints = torch.cat([points, torch.randint(3, (40, 7, 1), generator=generator)], 2)
    cells, inside = heatmap_cells(keypoints, boxes, 56)
    expected, valid = theirs.keypoints_to_heatmap(keypoints.clone(), boxes, 56)
    assert torch.equal(cells, expected) and torch.equal(inside, valid.bool())
    assert inside.any() and not inside.all()


def test_cells_by_hand():
    """Divides a box of 10 × 20 pixels at (5, 5) into 4 × 4 cells of 2.5 × 5 pixels."""
    box = torch.tensor([5.0, 5.0, 15.0, 25.0])
    points = [[5.0, 5.0, 2.0], [7.5, 9.9, 1.0], [15.0, 25.0, 2.0], [15.1, 10.0, 2.0], [10.0, 10.0, 0.0]]
    cells, inside = heatmap_cells(torch.tensor(points), box, 4)
    assert cells.tolist() == [0, 1, 15, 0, 0]
    assert inside.tolist() == [True, True, True, False, False]


def test_boxes_without_area_have_no_cells():
    box = torch.tensor([5.0, 5.0, 5.0, 9.0])
    assert not heatmap_cells(torch.tensor([[5.0, 7.0, 2.0]]), box, 4)[1].any()


@pytest.mark.parametrize("seed", range(3))
def test_positions_and_scores_equal_torchvision(seed):
    """Uses boxes of various sizes, one of them smaller than a pixel."""
    boxes = boxes_of(seed, 12)
    boxes[0, 2:] = boxes[0, :2] + 0.2
    heatmaps = torch.randn(12, 5, 56, 56, generator=torch.Generator().manual_seed(seed))
    places, scores = theirs.heatmaps_to_keypoints(heatmaps, boxes)
    found = locate(heatmaps, boxes)
    assert torch.allclose(found[..., :2], places[..., :2], atol=1e-3)
    assert torch.allclose(found[..., 2], scores, atol=1e-6)


def test_a_peak_is_found_at_the_center_of_its_cell():
    """Uses a box of the heatmap's size, which needs no resizing."""
    heatmaps = torch.zeros(1, 2, 56, 56)
    heatmaps[0, 0, 20, 30] = heatmaps[0, 1, 0, 55] = 5.0
    found = locate(heatmaps, torch.tensor([[100.0, 200.0, 156.0, 256.0]]))
    assert torch.allclose(found[0], torch.tensor([[130.5, 220.5, 5.0], [155.5, 200.5, 5.0]]))


def test_decoding_inverts_encoding_within_a_cell():
    """Decodes one-hot targets to within a cell and half a pixel of the keypoint, in boxes of at least 56 pixels."""
    boxes, generator = boxes_of(0, 30) + torch.tensor([0, 0, 56, 56]), torch.Generator().manual_seed(1)
    share = torch.rand(30, 4, 2, generator=generator)
    points = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
    cells, inside = heatmap_cells(torch.cat([points, torch.ones(30, 4, 1)], 2), boxes, 56)
    assert inside.all()
    heatmaps = torch.nn.functional.one_hot(cells, 56 * 56).float().view(30, 4, 56, 56)
    found = locate(heatmaps, boxes)[..., :2]
    cell = (boxes[:, 2:] - boxes[:, :2]) / 56
    assert ((found - points).abs() <= (cell + 0.5)[:, None] + 1e-3).all()


def test_ties_take_the_first_maximum_like_torchvision():
    """Uses a box of the heatmap's size, since rounding decides between ties after resizing."""
    boxes, heatmaps = torch.tensor([[10.0, 20.0, 66.0, 76.0]]), torch.zeros(1, 2, 56, 56)
    heatmaps[0, 1, 30:, 20:] = 1.0
    assert torch.equal(locate(heatmaps, boxes)[..., :2], theirs.heatmaps_to_keypoints(heatmaps, boxes)[0][..., :2])


def test_no_boxes():
    assert locate(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 3)
