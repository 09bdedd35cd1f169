"""Tests the operators in torch.compile, without graph breaks, and in torch.export."""

import pytest
import torch
from ops.scenes import SCALES, SIDES, candidates, pyramid
from torch import Tensor

from resdet.ops.nms import nms
from resdet.ops.roi_align import assign_levels, roi_align
from resdet.ops.sampler import sample


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pool_best(features: list[Tensor], boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor) -> Tensor:
    indices, kept = nms(boxes, scores, groups, valid, 0.5, 10)
    best = boxes.gather(1, indices[..., None].expand(-1, -1, 4))
    pooled = roi_align(features, best, assign_levels(best, len(SIDES)), SCALES, 3)
    return pooled * kept[..., None, None, None]


def learn(features: list[Tensor], *given: Tensor) -> Tensor:
    pooled = pool_best(features, *given)
    good = pooled.mean((2, 3, 4)) > 0
    indices, _, valid = sample(good, ~good, 10, 10)  # samples all of them, in random order
    chosen = pooled.gather(1, indices[..., None, None, None].expand_as(pooled))
    return (chosen * valid[..., None, None, None]).square().sum()


def test_compiled_fullgraph_with_gradients():
    given = candidates(60)
    features = [feature.requires_grad_() for feature in pyramid()]
    compiled = torch.compile(learn, fullgraph=True, backend="aot_eager")
    loss, wanted = compiled(features, *given), learn(features, *given)
    torch.testing.assert_close(loss, wanted)
    pairs = zip(torch.autograd.grad(loss, features), torch.autograd.grad(wanted, features))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
def test_compiled_by_inductor():
    given = candidates(60)
    features = [feature.requires_grad_() for feature in pyramid()]
    loss = torch.compile(learn, fullgraph=True)(features, *given)
    torch.testing.assert_close(loss, learn(features, *given))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, features))


class PoolBest(torch.nn.Module):
    def forward(self, features, boxes, scores, groups, valid):
        return pool_best(features, boxes, scores, groups, valid)


def test_exported():
    exported = torch.export.export(PoolBest(), (pyramid(), *candidates(60)))
    named = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert {"resdet.nms.default", "resdet.roi_align.default"} <= named
    other = (pyramid(), *candidates(60))
    torch.testing.assert_close(exported.module()(*other), pool_best(*other))
