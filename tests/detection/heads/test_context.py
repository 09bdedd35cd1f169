"""Tests global context (appendix B): image features concatenated to each region's, compared with torchvision's."""

import pytest
import torch
from detection.heads import tiny
from torch import Tensor, nn

from resdet import weights
from resdet.detection.heads.box_head import ConvFCHead, RoIPooler
from resdet.detection.heads.config import BoxConfig
from resdet.detection.heads.roi_heads import RoIHeads
from resdet.errors import WeightsError
from resdet.structures import Proposals, Targets

torchvision = pytest.importorskip("torchvision")

pytestmark = pytest.mark.usefixtures("shallow")

CONTEXT = "model.box.context=true"
BOXES = [[[5.0, 8.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]], [[0.0, 0.0, 16.0, 16.0], [3.0, 3.0, 40.0, 50.0]]]


def described(model, maps: list[Tensor], boxes: Tensor, level: int) -> Tensor:
    """Returns features of one box of each image, pooled by torchvision from one level."""
    pooler, head = model.roi_heads.pooler, model.roi_heads.stages[0].head
    rois = torch.cat([torch.arange(len(boxes))[:, None], boxes], 1)
    pool = torchvision.ops.roi_pool if pooler.kind == "max" else torchvision.ops.roi_align
    options = {} if pooler.kind == "max" else {"sampling_ratio": 2, "aligned": True}
    return head(pool(maps[level], rois, pooler.size, pooler.scales[level], **options))


@pytest.mark.parametrize("family, overrides", [("c4", ["model.box.pool=max"]), ("c4", []), ("fpn", [])])
@torch.no_grad()
def test_features_of_the_image_are_concatenated_to_those_of_each_region(family, overrides):
    """Pools the image without its padding, in an FPN from the coarsest level that regions use."""
    model = tiny.make(family, False, CONTEXT, *overrides).eval()
    images, boxes = tiny.images((64, 64), (64, 50)), torch.tensor(BOXES)
    maps = model.maps(images)
    scores, _, deltas = model.roi_heads.classify(maps, boxes, images.sizes)
    coarsest = 1 if family == "fpn" else 0  # regions come from levels 0 and 1
    whole = described(model, maps, torch.tensor([[0.0, 0, 64, 64], [0, 0, 50, 64]]), coarsest)
    predictor = model.roi_heads.stages[0].predictor
    for number in range(2):
        # Small regions come from the finest level.
        joined = torch.cat([described(model, maps, boxes[:, number], 0), whole], 1)
        expected = predictor.scores(joined).softmax(1)[:, :-1]
        assert torch.allclose(scores[:, number], expected, atol=1e-6)
        assert torch.allclose(deltas[:, number].flatten(1), predictor.boxes(joined), atol=1e-6)


@torch.no_grad()
def test_branches_get_the_maps_of_the_regions_without_those_of_the_image():
    """conv5_x computes the sampled regions and, last of each image, the whole image; a C4 branch needs the former."""
    model = tiny.make("c4", True, CONTEXT).eval()
    images, boxes = tiny.images((64, 64), (64, 50)), torch.tensor(BOXES)
    maps, heads = model.maps(images), model.roi_heads
    _, first_maps = heads.embed(heads.stages[0].head, heads.pool(maps, boxes, images.sizes))
    features = heads.branches["mask"].features
    assert len(first_maps) == 6
    torch.testing.assert_close(features.of_sample(maps, boxes, first_maps), features(maps, boxes))


@pytest.mark.parametrize("family", ["c4", "fpn", "cascade"])
def test_context_is_learned_end_to_end(family):
    """With context, region losses have gradients at feature map cells outside all regions."""
    reached = {}
    for context in ("true", "false"):
        model = tiny.make(family, True, f"model.box.context={context}", everything=True).train()
        maps = [x.detach().requires_grad_() for x in model.maps(tiny.images((64, 64)))]
        boxes = torch.tensor([[[0.0, 0.0, 20.0, 20.0]]])
        proposals = Proposals(boxes, torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
        losses = model.roi_heads.losses(maps, proposals, tiny.targets(boxes[0].tolist()), torch.tensor([[64.0, 64.0]]))
        sum(losses.values()).backward()
        reached[context] = maps[len(model.roi_heads.pooler.scales) - 1].grad
    assert reached["true"][..., -1, -1].abs().sum() > 0
    assert reached["false"] is None or reached["false"][..., -1, -1].abs().sum() == 0


def test_losses_compile_to_one_graph():
    torch.compiler.reset()
    model = tiny.make("fpn", False, CONTEXT, everything=True).train()
    images, targets = tiny.images((64, 64), (64, 50)), tiny.targets(*BOXES)
    compiled = torch.compile(model.losses, fullgraph=True, backend="eager")(images, targets)
    for name, loss in model.losses(images, targets).items():
        assert compiled[name].item() == pytest.approx(loss.item(), rel=1e-4), name


def test_inference_can_be_exported():
    model, images = tiny.make("c4", False, CONTEXT).eval(), tiny.images((64, 64), (64, 50))
    with torch.no_grad():
        exported = torch.export.export(model, (images.pixels[:1],)).module()(images.pixels[1:])
        for found, expected in zip(exported, model(images.pixels[1:])):
            assert torch.allclose(found, expected, atol=1e-2)


def test_weights_without_context_are_refused():
    plain, model = tiny.make("c4", False), tiny.make("c4", False, CONTEXT)
    state = plain.state_dict()
    with pytest.raises(WeightsError, match=r"of another shape: roi_heads.stages.0.predictor.scores.weight \[4, 64\]"):
        weights.load(model, state)
    report = weights.load(model, state, new_classifier=True)  # as `--init` does
    assert {line.split()[0] for line in report.mismatched} == {
        "roi_heads.stages.0.predictor.scores.weight",
        "roi_heads.stages.0.predictor.boxes.weight",
    }


def accuracy(context: bool) -> float:
    """Trains on two classes that differ only in a far corner of the image, and returns the accuracy.

    The heads get fixed maps: no earlier layer carries the corner to the objects.
    """
    torch.manual_seed(0)
    config = BoxConfig(batch_per_image=16, positive_fraction=0.5, context=context)
    regions = RoIHeads(config, [ConvFCHead(4, 3, 0, 0, None, 1, 16)], RoIPooler([4], 3, "align", 2, True), 2)
    optimizer = torch.optim.AdamW(regions.parameters(), lr=1e-2)
    for _ in range(60):
        maps, proposals, targets, sizes = surroundings(8)
        optimizer.zero_grad()
        sum(regions.losses([maps], proposals, targets, sizes).values()).backward()
        nn.utils.clip_grad_norm_(regions.parameters(), 1.0)
        optimizer.step()
    maps, _, targets, sizes = surroundings(200)
    scores = regions.classify([maps], targets.boxes, sizes)[0]
    return (scores.argmax(2) == targets.labels).float().mean().item()


def surroundings(images: int) -> tuple[Tensor, Proposals, Targets, Tensor]:
    """Makes maps of 64 x 64 pixel images: an object in the upper left, a sign of its class in the lower right."""
    maps = torch.randn(images, 4, 16, 16) * 0.1
    labels = torch.randint(2, (images, 1))
    corners = torch.randint(0, 5, (images, 2))
    for x, label, (row, column) in zip(maps, labels, corners.tolist()):
        x[0, row : row + 5, column : column + 5] += 1
        x[1, 12:, 12:] += 2.0 * label - 1
    boxes = torch.cat([corners.flip(1) * 4, corners.flip(1) * 4 + 20], 1)[:, None].float()
    yes = torch.ones(images, 1, dtype=torch.bool)
    proposals = Proposals(boxes + torch.randn_like(boxes), torch.zeros(images, 1), yes)
    return maps, proposals, Targets(boxes, labels, yes, ~yes), torch.full((images, 2), 64.0)


def test_context_separates_classes_that_differ_only_in_surroundings():
    assert accuracy(context=True) > 0.95
    assert accuracy(context=False) < 0.65
