"""Box losses compared with torchvision's, and the reduction and precision of losses."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.detection.heads import losses
from resdet.detection.heads.registry import box_losses

ops = pytest.importorskip("torchvision").ops
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def boxes(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, side = 100 * torch.rand(2, 30, 2, generator=generator)
    return torch.cat([corner, corner + 1 + side], 1).view(2, 15, 4)


def their_coder():
    from torchvision.models.detection._utils import BoxCoder

    return BoxCoder(WEIGHTS)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_on_parameters(beta):
    regions, wanted = boxes(0), boxes(1)
    deltas = torch.randn(2, 15, 4, generator=torch.Generator().manual_seed(2))
    parameters = their_coder().encode_single(wanted.view(-1, 4), regions.view(-1, 4))
    expected = F.smooth_l1_loss(deltas.view(-1, 4), parameters, beta=beta, reduction="none").sum(1)
    found = losses.smooth_l1_box_loss(deltas, regions, wanted, WEIGHTS, beta)
    assert torch.allclose(found.flatten(), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["giou", "diou"])
def test_overlap_losses(kind):
    regions, wanted = boxes(0), boxes(0) + torch.randn(2, 15, 4, generator=torch.Generator().manual_seed(1))
    deltas = torch.randn(2, 15, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    decoded = their_coder().decode_single(deltas.view(-1, 4), regions.view(-1, 4))
    theirs = {"giou": ops.generalized_box_iou_loss, "diou": ops.distance_box_iou_loss}[kind]
    expected = theirs(decoded, wanted.view(-1, 4))
    found = box_losses[kind](deltas, regions, wanted, WEIGHTS, beta=0.1)
    assert torch.allclose(found.flatten(), expected, atol=1e-5)
    gradients = [torch.autograd.grad(loss.sum(), deltas)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-5) and gradients[0].abs().max() > 0.01


def test_uncounted_terms_are_ignored():
    terms = torch.tensor([[1.0, 2.0, float("nan")], [4.0, float("inf"), 8.0]], requires_grad=True)
    counted = torch.tensor([[True, True, False], [True, False, False]])
    mean = losses.mean_over(terms, counted, torch.tensor(14))
    assert mean == 0.5
    assert torch.equal(torch.autograd.grad(mean, terms)[0], counted / 14)
    assert losses.mean_over(terms, torch.zeros_like(counted), torch.tensor(0)) == 0


def test_cross_entropies_are_computed_in_float32():
    logits, labels = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)), torch.randint(4, (2, 5))
    expected = -logits.log_softmax(-1).gather(2, labels[..., None])[..., 0]
    assert torch.allclose(losses.cross_entropy(logits, labels), expected, atol=1e-6)
    assert losses.cross_entropy(logits.bfloat16(), labels).dtype == torch.float32
    assert losses.objectness(logits[..., 0].bfloat16(), labels > 1).dtype == torch.float32
