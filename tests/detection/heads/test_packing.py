"""Tests mask and keypoint losses of positives that are packed into places shared by the images of a batch."""

from dataclasses import replace

import pytest
import torch
from detection.heads import tiny
from narrow import shallow_nets
from torch import Tensor
from torch.nn import functional as F

from resdet.detection.heads.branches import SampledProposals, pack_positives
from resdet.detection.model import Detector
from resdet.ops.keypoints import heatmap_cells
from resdet.ops.masks import crop_masks
from resdet.structures import Targets

# Of 6 samples per image, the first image has 5 positives, the next 1 and the last none.
POSITIVES = torch.tensor([5, 1, 0])
SAMPLED = 6
KEYPOINTS = "model.keypoint={width: 8, convs: 1, names: [a, b, c]}"


def model_of(family: str, *overrides: str) -> Detector:
    with shallow_nets():
        model = tiny.make(family, True, *overrides).eval()
    torch.nn.init.normal_(model.roi_heads.mask_head.masks.weight)  # distinct masks for the regions
    return model


def objects(keypoints: bool = False) -> Targets:
    """Makes two objects in each image, with random masks."""
    rng = torch.Generator().manual_seed(1)
    corner = 25 * torch.rand(3, 2, 2, generator=rng)
    boxes = torch.cat([corner, corner + 10 + 25 * torch.rand(3, 2, 2, generator=rng)], 2)
    flags = torch.ones(3, 2, dtype=torch.bool)
    masks = (torch.rand(3, 2, 7, 7, generator=rng) > 0.5).byte() * 255
    masks = masks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    points = boxes[:, :, None, :2] + 20 * torch.rand(3, 2, 3, 2, generator=rng) - 2
    points = torch.cat([points, torch.ones(3, 2, 3, 1)], 3)
    return Targets(boxes, torch.tensor([[0, 1], [2, 0], [1, 1]]), flags, ~flags, masks, points if keypoints else None)


def sample(targets: Targets) -> SampledProposals:
    """Jitters the boxes of both objects in turn; the last sample of each image is padding."""
    rng = torch.Generator().manual_seed(2)
    matched = torch.arange(SAMPLED).remainder(2).expand(3, -1)
    boxes = targets.boxes.gather(1, matched[..., None].expand(-1, -1, 4))
    boxes = boxes + 4 * torch.rand(boxes.shape, generator=rng) - 2
    place = torch.arange(SAMPLED)
    valid = (place < SAMPLED - 1).expand(3, -1)
    return SampledProposals(boxes * valid[..., None], matched, place < POSITIVES[:, None], valid)


def given(model: Detector, targets: Targets) -> tuple[list[Tensor], SampledProposals, Tensor]:
    """Returns the inputs of the branches: feature maps, RoIs and the box head's maps of the RoIs."""
    maps = list(model.maps(tiny.images((64, 64), (64, 50), (30, 64))))
    rois = sample(targets)
    heads = model.roi_heads
    pooled = heads.pool(maps, rois.boxes, torch.full((3, 2), 64.0))
    return maps, rois, heads.embed(heads.stages[0].head, pooled)[1]


def mask_loss(model: Detector, maps: list[Tensor], rois: SampledProposals, targets: Targets, kept: Tensor) -> Tensor:
    """Returns the mean binary cross entropy of the `kept` [3, R] RoIs, computed image by image."""
    terms = []
    for image in range(3):
        boxes, matched = rois.boxes[image, kept[image]][None], rois.objects[image, kept[image]][None]
        if len(boxes[0]):
            own = [level[image : image + 1] for level in maps]
            branch = model.roi_heads.branches["mask"]
            logits = branch.head(branch.features(own, boxes))
            logits = logits[torch.arange(len(logits)), targets.labels[image, matched[0]]]
            drawn = targets.masks[image][None], targets.boxes[image][None]
            wanted = crop_masks(*drawn, matched, boxes, logits.shape[-1])[0]
            terms.append(F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((1, 2)))
    return torch.cat(terms).mean()


def grads(loss: Tensor, model: Detector, head: str = "mask_head") -> list[Tensor]:
    parameters = [p for p in (*getattr(model.roi_heads, head).parameters(), *model.backbone.parameters())]
    parameters = [p for p in parameters if p.requires_grad]
    return [g for g in torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) if g is not None]


def assert_equal(found: Tensor, wanted: Tensor, model: Detector, head: str = "mask_head") -> None:
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    ours, theirs = grads(found, model, head), grads(wanted, model, head)
    assert len(ours) == len(theirs) > 10
    for one, other in zip(ours, theirs):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_packed_loss_and_gradients_equal_those_per_image(family, context):
    """One image has more positives than 2, its share of the 6 places of the batch."""
    model = model_of(family, f"model.box.context={str(context).lower()}", "model.mask.regions=2")
    targets = objects()
    maps, rois, first_maps = given(model, targets)
    found = model.roi_heads.branches["mask"].losses(maps, rois, first_maps, targets)["mask"]
    assert_equal(found, mask_loss(model, maps, rois, targets, rois.positive), model)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_surplus_positives_are_dropped_from_the_image_with_the_most(family):
    """With one place per image, the first 2, 1 and 0 of 5, 1 and 0 positives are kept."""
    model, targets = model_of(family, "model.mask.regions=1"), objects()
    maps, rois, first_maps = given(model, targets)
    found = model.roi_heads.branches["mask"].losses(maps, rois, first_maps, targets)["mask"]
    kept = torch.arange(SAMPLED) < torch.tensor([2, 1, 0])[:, None]
    assert_equal(found, mask_loss(model, maps, rois, targets, kept), model)


def test_a_batch_without_positives_has_zero_loss_and_gradients():
    model, targets = model_of("fpn"), objects()
    maps, rois, first_maps = given(model, targets)
    rois = rois._replace(positive=torch.zeros_like(rois.positive))
    loss = model.roi_heads.branches["mask"].losses(maps, rois, first_maps, targets)["mask"]
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in grads(loss, model))


def test_keypoint_losses_share_places():
    model, targets = model_of("fpn", KEYPOINTS), objects(keypoints=True)
    branch = model.roi_heads.branches["keypoint"]
    branch.config = replace(branch.config, regions=2)
    maps, rois, first_maps = given(model, targets)
    found = branch.losses(maps, rois, first_maps, targets)["keypoint"]
    heatmaps = branch.predict(maps, rois.boxes, rois.objects)[rois.positive].flatten(2)
    points = targets.keypoints.gather(1, rois.objects[..., None, None].expand(-1, -1, 3, 3))[rois.positive]
    cells, inside = heatmap_cells(points, rois.boxes[rois.positive], 56)
    assert 0 < inside.sum() < inside.numel()
    assert_equal(found, F.cross_entropy(heatmaps[inside], cells[inside]), model, "keypoint_head")


def test_compiled_packing_has_fixed_shapes(monkeypatch):
    """The number of places depends on the batch size alone; positives come first, other samples fill the rest."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    targets = objects()
    for regions in (1, 2, 6):
        packed = pack_positives(sample(targets), targets, regions)
        assert packed.images.shape == packed.places.shape == packed.rois.positive.shape == (1, 3 * regions)
        count = min(6, 3 * regions)
        assert packed.rois.positive[0].tolist() == [True] * count + [False] * (3 * regions - count)
        pairs = set(zip(packed.images[0].tolist(), packed.places[0].tolist()))
        assert len(pairs) == 3 * regions
    assert packed.targets.boxes.shape == (1, 6, 4) and packed.targets.masks.shape == (1, 6, 28, 28)
