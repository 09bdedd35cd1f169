"""Box refinement and voting, against figures worked out by hand."""

import pytest
import torch

from resdet.inference.refinement import Candidates, refine, vote
from resdet.inference.views import Scored


def test_voting_on_five_boxes():
    """One survivor of class 0: itself and a neighbour of IoU 0.6 vote, by their scores; the rest do not.

    The others overlap it by 1/3, are of another class, or lie apart.
    """
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [2.5, 0, 12.5, 10], [5, 0, 15, 10], [0, 0, 10, 10], [50, 50, 60, 60]],
    )
    candidates = Candidates(boxes, torch.tensor([0.9, 0.3, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 0, 1, 0]))
    voted = vote(boxes[:1], torch.tensor([0]), candidates, 0.5)
    x = 2.5 * 0.3 / (0.9 + 0.3)
    assert voted.tolist() == [pytest.approx([x, 0, 10 + x, 10])]
    # At an IoU of 1/3 the third one has a vote, too.
    x = (2.5 * 0.3 + 5 * 0.8) / (0.9 + 0.3 + 0.8)
    assert vote(boxes[:1], torch.tensor([0]), candidates, 0.33).tolist() == [pytest.approx([x, 0, 10 + x, 10])]


def test_each_survivor_has_its_own_voters():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [40, 40, 50, 50], [40, 40, 50, 60]])
    candidates = Candidates(boxes, torch.tensor([0.8, 0.4, 0.5, 0.5]), torch.tensor([0, 0, 1, 1]))
    survivors = torch.tensor([0, 2])
    voted = vote(boxes[survivors], torch.tensor([0, 1]), candidates, 0.5)
    assert torch.allclose(voted, torch.tensor([[0, 0, 10, (10 * 0.8 + 8 * 0.4) / 1.2], [40, 40, 50, 55]]))


def test_without_survivors_there_is_no_vote():
    nothing = Candidates(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert vote(nothing.boxes, nothing.labels, nothing, 0.5).shape == (0, 4)


def test_regions_are_scored_again_in_the_boxes_of_their_best_class():
    """N and N make 2 N: what was first said of the regions, then what is said of the boxes they became."""
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
