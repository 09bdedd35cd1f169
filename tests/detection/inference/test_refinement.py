"""Box refinement and the voting of boxes and masks on examples computed by hand."""

import pytest
import torch

from resdet.detection.inference.refinement import Candidates, refine, vote, vote_masks, voters
from resdet.detection.inference.views import Scored
from resdet.ops.masks import overlaps


def test_voting_on_five_boxes():
    """The survivor and a neighbor of IoU 0.6 vote, weighted by their scores.

    The others have an IoU of 1/3 with it, another class, or no overlap.
    """
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [2.5, 0, 12.5, 10], [5, 0, 15, 10], [0, 0, 10, 10], [50, 50, 60, 60]],
    )
    candidates = Candidates(boxes, torch.tensor([0.9, 0.3, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 0, 1, 0]))
    voted = vote(boxes[:1], torch.tensor([0]), candidates, 0.5)
    x = 2.5 * 0.3 / (0.9 + 0.3)
    assert voted.tolist() == [pytest.approx([x, 0, 10 + x, 10])]
    # At a threshold of 0.33 the third one votes, too.
    x = (2.5 * 0.3 + 5 * 0.8) / (0.9 + 0.3 + 0.8)
    assert vote(boxes[:1], torch.tensor([0]), candidates, 0.33).tolist() == [pytest.approx([x, 0, 10 + x, 10])]


def test_the_closest_candidate_votes_if_none_is_close_enough():
    """A voted box may overlap every candidate too little; candidates of other classes never vote."""
    boxes = torch.tensor([[0.0, 0, 20, 20], [6, 0, 26, 20], [2, 0, 22, 20]])
    candidates = Candidates(boxes, torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0, 0, 1]))
    between = torch.tensor([[2.0, 0, 22, 20]])
    assert voters(between, torch.tensor([0]), candidates, 0.9).tolist() == [[True, False, False]]
    assert voters(between, torch.tensor([0]), candidates, 0.5).tolist() == [[True, True, False]]


def test_survivors_have_separate_voters():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [40, 40, 50, 50], [40, 40, 50, 60]])
    candidates = Candidates(boxes, torch.tensor([0.8, 0.4, 0.5, 0.5]), torch.tensor([0, 0, 1, 1]))
    survivors = torch.tensor([0, 2])
    voted = vote(boxes[survivors], torch.tensor([0, 1]), candidates, 0.5)
    assert torch.allclose(voted, torch.tensor([[0, 0, 10, (10 * 0.8 + 8 * 0.4) / 1.2], [40, 40, 50, 55]]))


def test_without_survivors_there_is_no_vote():
    nothing = Candidates(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert vote(nothing.boxes, nothing.labels, nothing, 0.5).shape == (0, 4)


def test_refine_scores_the_boxes_of_the_best_class():
    """N regions give 2 N results: their first scores, then those of the boxes of their best class."""
    scores = torch.tensor([[0.1, 0.7], [0.6, 0.2]])
    boxes = torch.arange(16.0).view(2, 2, 4)
    asked = []

    def score(regions):
        asked.append(regions)
        return Scored(scores + 0.1, boxes + 100)

    said = refine(Scored(scores, boxes), score)
    assert len(asked) == 1 and torch.equal(asked[0], torch.stack([boxes[0, 1], boxes[1, 0]]))
    assert torch.equal(said.scores, torch.cat([scores, scores + 0.1]))
    assert torch.equal(said.boxes, torch.cat([boxes, boxes + 100]))


def test_masks_vote_in_the_frame_of_the_survivor():
    """The masks have 2 x 2 cells; the second one lies half a box to the right, with an IoU of 1/3."""
    boxes = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8], [0, 0, 8, 8], [40, 40, 48, 48]])
    candidates = Candidates(boxes, torch.tensor([0.6, 0.2, 0.9, 0.5]), torch.tensor([0, 0, 1, 0]))
    masks = torch.tensor([[[1.0, 0], [0.5, 0]], [[0.8, 1], [0, 1]], [[1, 1], [1, 1]], [[0, 0], [0, 0.25]]])
    survivors, labels = boxes[[0, 3]], torch.tensor([0, 0])
    votes = voters(survivors, labels, candidates, 0.3)
    assert votes.tolist() == [[True, True, False, False], [False, False, False, True]]
    # The second mask's left column falls on the survivor's right column; elsewhere it counts as 0.
    expected = [[0.6 * 1, 0.2 * 0.8], [0.6 * 0.5, 0]]
    voted = vote_masks(survivors, votes, candidates, masks)
    assert torch.allclose(voted[0], torch.tensor(expected) / 0.8)
    assert torch.allclose(voted[1], masks[3])


def test_voting_improves_masks():
    """Votes on noisy masks of a disc in jittered boxes increase their overlap with the disc."""
    torch.manual_seed(0)
    cells = (torch.arange(28) + 0.5) / 28
    boxes = torch.tensor([20.0, 20, 60, 60]) + 2 * torch.randn(12, 4)
    x = boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * cells
    y = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * cells
    disc = ((x[:, None] - 40) ** 2 + (y[:, :, None] - 40) ** 2 < 18**2).float()
    masks = (disc + 0.6 * torch.randn_like(disc)).clamp(0, 1)
    candidates = Candidates(boxes, torch.linspace(0.9, 0.3, 12), torch.zeros(12, dtype=torch.int64))
    votes = voters(boxes, candidates.labels, candidates, 0.5)
    assert votes.all()
    before, after = (overlaps(m > 0.5, disc > 0.5) for m in (masks, vote_masks(boxes, votes, candidates, masks)))
    assert before.mean() < 0.85 and after.min() > 0.9


def test_masks_without_survivors():
    nothing = Candidates(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    votes = voters(nothing.boxes, nothing.labels, nothing, 0.5)
    assert vote_masks(nothing.boxes, votes, nothing, torch.zeros(0, 28, 28)).shape == (0, 28, 28)


def test_candidates_of_other_classes_never_vote():
    boxes = torch.tensor([[0.0, 0, 10, 10], [40, 40, 50, 50]])
    candidates = Candidates(boxes, torch.tensor([0.8, 0.5]), torch.tensor([0, 0]))
    assert not voters(boxes[:1], torch.tensor([1]), candidates, 0.5).any()
