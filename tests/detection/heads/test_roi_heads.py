"""RoI heads: losses, stages, detections and masks on small examples computed by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.detection.build import build_box_head
from resdet.detection.heads import branches
from resdet.detection.heads import roi_heads as module
from resdet.detection.heads.box_head import Conv5Head, ConvFCHead, RoIPooler
from resdet.detection.heads.branches import Conv5Features, PooledFeatures
from resdet.detection.heads.config import BoxConfig, MaskConfig
from resdet.detection.heads.mask_head import MaskBranch, MaskHead
from resdet.detection.heads.registry import box_heads
from resdet.detection.heads.roi_heads import RoIHeads, RoIPredictions, share_gradient
from resdet.errors import ConfigError
from resdet.structures import Proposals, Targets

pytest.importorskip("torchvision")

CLASSES = 3
SIZES = torch.tensor([[100.0, 100.0]])
OBJECT = [20.0, 20.0, 60.0, 60.0]
LABEL = 1
CANDIDATES = [
    [10.0, 20.0, 50.0, 60.0],  # IoU 0.6 with the object, 1 after a move by 10 to the right
    [4.0, 20.0, 44.0, 60.0],  # 0.43, then 0.74
    [70.0, 0.0, 90.0, 20.0],  # 0, then 0
]
MOVE = 0.25  # of a box's width, predicted by the first stage for all regions: 10 pixels for a width of 40
FIRST, SECOND = [0.5, -1.0, 2.0, 0.1], [1.5, 0.3, -0.4, 0.7]  # each stage's logits for all regions


def make(**options) -> RoIHeads:
    """Builds heads whose last layers predict the same for all regions."""
    config = BoxConfig(batch_per_image=40, positive_fraction=0.5, **options)
    heads = [ConvFCHead(4, 2, 0, 4, None, 1, 8) for _ in config.ious]
    regions = RoIHeads(config, heads, RoIPooler([16], 2, "align", 2, True), CLASSES)
    for stage, logits in zip(regions.stages, (FIRST, SECOND)):
        for layer in (stage.predictor.scores, stage.predictor.boxes):
            torch.nn.init.zeros_(layer.weight)
        stage.predictor.scores.bias.data = torch.tensor(logits)
    regions.stages[0].predictor.boxes.bias.data[0::4] = 10 * MOVE
    return regions


def maps() -> list[Tensor]:
    return [torch.randn(1, 4, 7, 7, generator=torch.Generator().manual_seed(0))]


def proposals(boxes: list = CANDIDATES, padding: int = 2) -> Proposals:
    """Adds padding that repeats the first box and must be ignored."""
    padded = torch.tensor([boxes + [boxes[0]] * padding])
    valid = torch.arange(padded.shape[1])[None] < len(boxes)
    return Proposals(padded, torch.zeros(padded.shape[:2]), valid)


def targets(mask: bool = False) -> Targets:
    boxes = torch.tensor([[OBJECT, [0.0] * 4]])
    drawn = torch.zeros(1, 2, 56, 56, dtype=torch.uint8)
    drawn[0, 0, :, 14:] = 255  # all but the left quarter
    valid = torch.tensor([[True, False]])
    return Targets(boxes, torch.tensor([[LABEL, 0]]), valid, torch.zeros_like(valid), drawn if mask else None)


def surprise(logits: list[float], label: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[label]


def smooth_l1(error: float, beta: float = 1 / 9) -> float:
    return 0.5 * error**2 / beta if abs(error) < beta else abs(error) - 0.5 * beta


def test_losses_of_one_stage():
    """Of three candidates and the object's box two are positive, one of them off by 0.25 of its width."""
    losses = make().losses(maps(), proposals(), targets(), SIZES)
    assert losses.keys() == {"class", "box"}
    background = CLASSES
    expected = (surprise(FIRST, LABEL) + surprise(FIRST, background)) / 2
    assert losses["class"].item() == pytest.approx(expected, rel=1e-5)
    # Correct for the first candidate; for the object's box it predicts 10 · 0.25 where 0 is right.
    assert losses["box"].item() == pytest.approx(smooth_l1(10 * MOVE) / 4, rel=1e-5)


@pytest.mark.parametrize(("key", "name"), [("class_loss", "class_loss"), ("loss", "box_loss")])
def test_a_loss_that_returns_a_mean_is_refused(key, name):
    """It would be broadcast over padding and unsampled RoIs."""
    heads = make()
    per_roi = getattr(heads, name)
    setattr(heads, name, lambda *inputs: per_roi(*inputs).mean())
    with pytest.raises(ConfigError, match=f"model.box.{key} is .*: this loss must return one value per RoI"):
        heads.losses(maps(), proposals(), targets(), SIZES)


def test_the_second_stage_matches_refined_boxes_at_a_higher_iou():
    """After stage 1, both candidates on the left are positive at 0.65, and the object's box (0.6) is negative."""
    losses = make(ious=[0.5, 0.65], class_agnostic=True).losses(maps(), proposals(), targets(), SIZES)
    assert losses.keys() == {"class1", "box1", "class2", "box2"}
    single = make().losses(maps(), proposals(), targets(), SIZES)
    assert losses["class1"] == single["class"] and losses["box1"] == single["box"]
    expected = (surprise(SECOND, LABEL) + surprise(SECOND, CLASSES)) / 2
    assert losses["class2"].item() == pytest.approx(expected, rel=1e-5)
    # Stage 2 predicts no move: correct for the first box; the second is off by 6 of 40 pixels, with weight 20.
    assert losses["box2"].item() == pytest.approx(smooth_l1(20 * 6 / 40) / 4, rel=1e-5)


def test_the_second_stage_has_positive_regions_beyond_the_quota_of_the_first():
    """Stage 1 may sample one positive region; the candidate after it becomes positive by its move."""
    regions = make(ious=[0.5, 0.65], class_agnostic=True)
    regions.positives = 1
    losses = regions.losses(maps(), proposals(), targets(), SIZES)
    assert losses["box2"].item() == pytest.approx(smooth_l1(20 * 6 / 40) / 3, rel=1e-5)


def test_later_stages_ignore_boxes_in_crowds():
    crowd = [60.0, 60.0, 100.0, 100.0]
    boxes, flags = torch.tensor([[OBJECT, crowd]]), torch.tensor([[False, True]])
    mixed = Targets(boxes, torch.tensor([[LABEL, LABEL]]), torch.ones_like(flags), flags)
    found = make().match(torch.tensor([[OBJECT, [70.0, 70.0, 90.0, 90.0]]]), torch.ones_like(flags), mixed, 0.6)
    assert found.positive.tolist() == found.valid.tolist() == [[True, False]]


def test_branches_of_a_cascade_learn_from_the_regions_of_the_first_stage():
    given = []

    class Branch:
        def losses(self, maps, rois, first_maps, targets):
            given.extend(rois.boxes[rois.valid].tolist())
            return {}

    regions = make(ious=[0.5, 0.65], class_agnostic=True)
    regions.branches = {"probe": Branch()}
    regions.losses(maps(), proposals(), targets(), SIZES)
    assert sorted(given) == sorted([*CANDIDATES, OBJECT])


def test_a_cascade_refines_boxes_stage_by_stage_and_averages_their_scores():
    regions = make(ious=[0.5, 0.65], class_agnostic=True, score=0.0, nms=1.0)
    regions.stages[1].predictor.boxes.bias.data[1] = 20 * -0.1  # up by a tenth of the height
    with torch.no_grad():
        found = regions.detect(maps(), proposals(), SIZES, score=0.0)
    kept = found.valid[0]
    assert kept.sum() == 3 * CLASSES
    probabilities = torch.tensor([FIRST, SECOND]).softmax(1).mean(0)[:CLASSES]
    for score, label in zip(found.scores[0][kept], found.labels[0][kept]):
        assert score.item() == pytest.approx(probabilities[label].item(), rel=1e-5)
    # 10 pixels right and 4 up; the last box is half as large, and clipped at the top.
    for box in ([20.0, 16.0, 60.0, 56.0], [14.0, 16.0, 54.0, 56.0], [75.0, 0.0, 95.0, 18.0]):
        assert ((found.boxes[0][kept] - torch.tensor(box)).abs().amax(1) < 1e-3).sum() == CLASSES


def test_a_cascade_clips_boxes_to_the_image_between_stages():
    """Stage 1 moves the box by 5 pixels to the right, across the border; stage 2 by a quarter of its width back."""
    regions = make(ious=[0.5, 0.65], class_agnostic=True, score=0.0, nms=1.0)
    regions.stages[1].predictor.boxes.bias.data[0] = 20 * -MOVE
    given = proposals([[80.0, 0.0, 100.0, 20.0]], padding=0)
    with torch.no_grad():
        found = regions.detect(maps(), given, SIZES, score=0.0)
        rois = regions.sample(given, targets())
        refined = regions.refine(rois, torch.tensor([10 * MOVE, 0, 0, 0]).expand(1, 40, 1, 4), targets(), SIZES, 1)
    clipped = torch.tensor([85.0, 0.0, 100.0, 20.0])
    torch.testing.assert_close(found.boxes[0, 0], clipped - torch.tensor([15 * MOVE, 0, 15 * MOVE, 0]))
    sampled = (rois.boxes == given.boxes[:, :1]).all(2) & rois.valid
    assert sampled.sum() == 1
    torch.testing.assert_close(refined.boxes[sampled][0], clipped)


def test_the_box_loss_has_a_weight():
    losses = [make(loss_weight=weight).losses(maps(), proposals(), targets(), SIZES) for weight in (1.0, 2.0)]
    assert losses[1]["class"] == losses[0]["class"]
    torch.testing.assert_close(losses[1]["box"], 2 * losses[0]["box"])


def test_the_features_gradient_is_shared_between_stages():
    x = torch.randn(5, requires_grad=True)
    shared = share_gradient(x, 3)
    assert torch.allclose(shared, x)
    shared.sum().backward()
    assert torch.allclose(x.grad, torch.full((5,), 1 / 3))
    assert share_gradient(x, 1) is x


def test_boxes_are_predicted_per_class():
    """Only the object's class moves its box, which shows in the loss and in detections of that class."""
    regions = make(score=0.0, nms=1.0)
    bias = regions.stages[0].predictor.boxes.bias
    bias.data.zero_().view(CLASSES, 4)[LABEL, 0] = 10 * MOVE
    losses = regions.losses(maps(), proposals(), targets(), SIZES)
    assert losses["box"].item() == pytest.approx(smooth_l1(10 * MOVE) / 4, rel=1e-5)
    with torch.no_grad():
        found = regions.detect(maps(), proposals(CANDIDATES[:1]), SIZES, score=0.0)
    for box, label in zip(found.boxes[0, :CLASSES], found.labels[0, :CLASSES]):
        assert box[0].item() == pytest.approx(20.0 if label == LABEL else 10.0, abs=1e-3)


def test_padding_low_scores_and_nan_give_no_detections():
    regions = make(nms=1.0)
    with torch.no_grad():
        found = regions.detect(maps(), proposals(), SIZES, score=0.5)
    probabilities = torch.tensor(FIRST).softmax(0)[:CLASSES]
    assert found.valid.shape == (1, 100)
    assert found.valid.sum() == 3 * (probabilities > 0.5).sum() == 3
    regions.stages[0].predictor.scores.bias.data[0] = float("nan")
    with torch.no_grad():
        assert not regions.detect(maps(), proposals(), SIZES, score=0.0).valid.any()


def test_regions_with_nan_displace_no_candidates():
    """A region whose scores are NaN is not among the three candidates."""
    boxes, deltas = torch.tensor([CANDIDATES]), torch.zeros(1, 3, CLASSES, 4)
    scores = torch.full((1, 3, CLASSES), 0.5)
    scores[0, 0] = float("nan")
    valid = torch.ones(1, 3, dtype=torch.bool)
    heads, given = make(candidates=3, detections=3, nms=1.0), RoIPredictions(scores, boxes, deltas)
    found = heads.postprocess_detections(given, valid, SIZES, 0.1)
    assert found.valid.all() and (found.scores == 0.5).all()


def test_nms_is_per_class():
    """The first two candidates have an IoU of 0.74: one of them is kept per class."""
    with torch.no_grad():
        found = make(nms=0.7).detect(maps(), proposals(), SIZES, score=0.0)
    assert found.labels[0][found.valid[0]].bincount().tolist() == [2, 2, 2]


def test_candidates_and_detections_are_limited():
    with torch.no_grad():
        few = make(nms=1.0, detections=2).detect(maps(), proposals(), SIZES, score=0.0)
        fewer = make(nms=1.0, candidates=4, detections=4).detect(maps(), proposals(), SIZES, score=0.0)
    assert few.valid.tolist() == [[True, True]]
    best = torch.tensor(FIRST).softmax(0)[2].item()
    assert few.scores[0].tolist() == pytest.approx([best, best])
    assert sorted(fewer.labels[0].tolist()) == [0, 2, 2, 2]


def with_masks(conv5: bool, limit: int) -> RoIHeads:
    """Builds heads with a mask branch, on separately pooled features or through the box head's conv5."""
    torch.manual_seed(0)
    config, mask = BoxConfig(batch_per_image=40, positive_fraction=0.5), MaskConfig(regions=limit)
    pooler = RoIPooler([16], 4, "align", 2, True)
    if conv5:
        head = Conv5Head(torch.nn.Conv2d(4, 6, 3, stride=2, padding=1), 6)
        branch = MaskBranch(mask, MaskHead(6, 0, 5, None, CLASSES), Conv5Features(pooler, head), 20)
        return RoIHeads(config, [head], pooler, CLASSES, {"mask": branch})
    head = ConvFCHead(4, 4, 0, 4, None, 1, 8)
    features = PooledFeatures(RoIPooler([16], 6, "align", 2, True), 4)
    branch = MaskBranch(mask, MaskHead(4, 1, 5, None, CLASSES), features, 20)
    return RoIHeads(config, [head], pooler, CLASSES, {"mask": branch})


@pytest.mark.parametrize("conv5", [False, True])
@pytest.mark.parametrize("limit", [128, 1])
def test_the_mask_loss_is_that_of_positive_regions(conv5, limit, monkeypatch):
    """The positives are the object's box, whose mask lacks its left quarter, and a candidate 10 pixels to the left."""
    regions = with_masks(conv5, limit)
    torch.nn.init.normal_(regions.mask_head.masks.weight)  # distinct masks for the regions
    drawn = torch.tensor([[5, 0, 1, 2]])  # 5 is the object's box, after three candidates and two paddings
    learned = torch.tensor([[True, True, False, False]]), torch.ones(1, 4, dtype=torch.bool)
    monkeypatch.setattr(module, "sample", lambda *_: (drawn, *learned))
    losses = regions.losses(maps(), proposals(), targets(mask=True), SIZES)
    boxes, labels = torch.tensor([[OBJECT, CANDIDATES[0]]])[:, :limit], torch.full((1, min(limit, 2)), LABEL)
    with torch.no_grad():
        probabilities = regions.branches["mask"].predict(maps(), boxes, labels)[0]
    m = probabilities.shape[-1]
    wanted = torch.zeros(2, m, m)
    centers = (torch.arange(m) + 0.5) / m
    wanted[0, :, centers > 0.25] = 1  # x from 30 on, in a box from 20 to 60
    wanted[1, :, centers > 0.5] = 1  # in a box from 10 to 50
    expected = F.binary_cross_entropy(probabilities, wanted[:limit]).item()
    assert losses["mask"].item() == pytest.approx(expected, rel=1e-4)


def test_the_mask_loss_has_a_weight():
    regions, given = with_masks(False, 20), (maps(), proposals(), targets(mask=True), SIZES)
    whole = regions.losses(*given)["mask"]
    branch = regions.branches["mask"]
    branch.config = replace(branch.config, loss_weight=0.5)
    torch.testing.assert_close(regions.losses(*given)["mask"], whole / 2)


def test_initial_masks_are_undecided():
    """With one class and strong features, probabilities are about 0.5 and the loss is ln 2."""
    torch.manual_seed(0)
    logits = MaskHead(64, 4, 64, None, 1)(20 * torch.randn(4, 64, 14, 14))
    assert logits.abs().max() < 1
    assert F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).item() == pytest.approx(0.693, abs=0.05)


@pytest.mark.parametrize("conv5", [False, True])
def test_padding_does_not_change_the_mask_loss(conv5, monkeypatch):
    """Compares the packing of a CPU, without padding, with fixed shapes, where padding has weight 0."""
    regions = with_masks(conv5, 20)
    found, asked = [], []
    for places in (branches.packed_places, lambda positive, regions: len(positive) * regions):
        record = lambda *given: asked.append(places(*given)) or asked[-1]
        monkeypatch.setattr(branches, "packed_places", record)
        found.append(regions.losses(maps(), proposals(), targets(mask=True), SIZES)["mask"].item())
    assert asked == [8, 20]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_targets_without_masks_give_no_mask_loss():
    assert "mask" not in with_masks(False, 128).losses(maps(), proposals(), targets(), SIZES)


@pytest.mark.parametrize("kind", ["align", "max"])
def test_pooled_regions_equal_torchvision(kind):
    from torchvision import ops

    features, boxes = maps(), torch.tensor([CANDIDATES])
    pool = {"align": lambda *a: ops.roi_align(*a, 3, 1 / 16, 2, True), "max": lambda *a: ops.roi_pool(*a, 3, 1 / 16)}
    found = RoIPooler([16], 3, kind, 2, True)(features, boxes)
    assert torch.allclose(found, pool[kind](features[0], list(boxes)), atol=1e-5)


@pytest.mark.parametrize("canonical", [224.0, 84.0])
def test_large_regions_come_from_coarse_levels(canonical):
    """FPN, equation 1: a side of 224 pixels maps to stride 16, half of it to stride 8."""
    flat = [torch.full((1, 1, 512 // 2**level, 512 // 2**level), float(level)) for level in (2, 3, 4, 5)]
    sides = [side * canonical / 224 for side in (20.0, 111.0, 113.0, 223.0, 225.0, 447.0, 449.0)]
    boxes = torch.tensor([[[0.0, 0.0, side, side] for side in sides]])
    pooled = RoIPooler([4, 8, 16, 32], 1, "align", 2, True, canonical)(flat, boxes)
    assert pooled.flatten().tolist() == pytest.approx([2, 2, 3, 3, 4, 4, 5])


def test_crowds_are_not_candidates():
    """The box of a crowd that covers most of an object has a high IoU with it."""
    crowd = [20.0, 20.0, 60.0, 55.0]
    boxes, flags = torch.tensor([[OBJECT, crowd]]), torch.tensor([[False, True]])
    mixed = Targets(boxes, torch.tensor([[LABEL, LABEL]]), torch.ones_like(flags), flags)
    rois = make().sample(proposals([CANDIDATES[2]]), mixed)
    assert rois.boxes[rois.positive].tolist() == [OBJECT]


def test_detections_below_a_hundredth_of_a_pixel_are_left_out():
    heads = make(class_agnostic=True)
    boxes = torch.tensor([[[10.0, 10, 10.005, 30], [10, 10, 30, 10.005], [10, 10, 10.02, 30]]])
    scores, valid = torch.full((1, 3, CLASSES), 0.5), torch.ones(1, 3, dtype=torch.bool)
    given = RoIPredictions(scores, boxes, torch.zeros(1, 3, 1, 4))
    found = heads.postprocess_detections(given, valid, SIZES, 0.1)
    torch.testing.assert_close(found.boxes[found.valid], boxes[0, 2].expand(CLASSES, 4))


def test_a_registered_box_head_without_width_is_refused(monkeypatch):
    monkeypatch.setitem(box_heads.entries, "flat", lambda config, channels, size: nn.Flatten())
    with pytest.raises(ConfigError, match=r"model\.box\.head is flat: a Flatten has no `width`; set it"):
        build_box_head(BoxConfig(head="flat"), 8, 7)
