"""MNC's losses, gradients and detections on small examples computed by hand, and a short training."""

import math
from dataclasses import replace

import pytest
import torch
from detection.heads import tiny
from detection.heads.test_roi_heads import (
    CANDIDATES,
    CLASSES,
    LABEL,
    MOVE,
    SIZES,
    proposals,
    smooth_l1,
    surprise,
    targets,
)
from torch import Tensor, nn

from resdet import weights
from resdet.detection.heads import mnc as module
from resdet.detection.heads.box_head import Conv5Head
from resdet.detection.heads.branches import SampledProposals
from resdet.detection.heads.config import BoxConfig, MNCConfig
from resdet.detection.heads.mnc import MNC, RoIWarp, limit_gradient, mask_iou
from resdet.errors import ConfigError, WeightsError
from resdet.structures import Proposals, Targets

BY_BOX, BY_MASK = [2.0, -1.0, 0.5, 0.1], [0.3, -0.4, 1.5, 0.7]  # logits of all regions; BY_MASK is largest for class 2
BEST = 2
STRENGTH = 1.2  # mask logit of all regions: positive in the right half, negative in the left half
DRAWN = 8  # mask resolution
RIGHT, WRONG = math.log(1 + math.exp(-STRENGTH)), math.log(1 + math.exp(STRENGTH))  # loss per correct and wrong pixel


class Conv5(nn.Conv2d):
    """Replaces conv5_x."""

    def __init__(self, channels: int = 4, width: int = 6):
        super().__init__(channels, width, 3, 2, 1)


def make(stride: int = 16, size: int = 4, classes: int = CLASSES, channels: int = 4, **options) -> MNC:
    torch.manual_seed(0)
    config = BoxConfig(batch_per_image=40, positive_fraction=0.5, **options)
    head = Conv5Head(Conv5(channels), 6)
    return MNC(config, MNCConfig(resolution=DRAWN, width=16), head, RoIWarp(stride, size), classes)


def fixed(**options) -> MNC:
    """Predicts the same for all regions: the class with the best mask score moves its box to the right."""
    regions = make(**options)
    (stage,) = regions.stages
    layers = (stage.predictor.scores, stage.mask_scores, stage.predictor.boxes, regions.mask_head.pixels)
    for layer in layers:
        nn.init.zeros_(layer.weight)
    stage.predictor.scores.bias.data = torch.tensor(BY_BOX)
    stage.mask_scores.bias.data = torch.tensor(BY_MASK)
    stage.predictor.boxes.bias.data.view(CLASSES, 4)[BEST, 0] = 10 * MOVE
    half = torch.arange(DRAWN) >= DRAWN // 2
    regions.mask_head.pixels.bias.data = (STRENGTH * (2.0 * half - 1)).repeat(DRAWN)
    return regions


def maps() -> list[Tensor]:
    return [torch.randn(1, 4, 7, 7, generator=torch.Generator().manual_seed(0))]


def test_losses():
    """Computes the losses of both rounds by hand.

    The object's box spans x from 20 to 60 and its mask x from 30 to 60: 30 · 40 pixels. In round 1 the first candidate
    and the object's box are positive, and their masks cover 20 of these 30 columns: an IoU of 2/3.
    """
    losses = fixed().losses(maps(), proposals(), targets(mask=True), SIZES)
    assert losses.keys() == {f"{name}{number}" for name in ("class", "box", "mask", "mask_class") for number in (1, 2)}
    found = {name: loss.item() for name, loss in losses.items()}
    background = CLASSES
    assert found["class1"] == pytest.approx((surprise(BY_BOX, LABEL) + surprise(BY_BOX, background)) / 2, rel=1e-5)
    by_mask = surprise(BY_MASK, LABEL), surprise(BY_MASK, background)
    assert found["mask_class1"] == pytest.approx(sum(by_mask) / 2, rel=1e-5)
    # The object's class predicts no move; the first candidate is off by a quarter of its width.
    assert found["box1"] == pytest.approx(smooth_l1(10 * MOVE) / 4, rel=1e-5)
    # In 10 to 50 the mask is the right half, as predicted; in 20 to 60 it has two more of eight columns.
    assert found["mask1"] == pytest.approx((RIGHT + (6 * RIGHT + 2 * WRONG) / 8) / 2, rel=1e-5)

    # Round 2: the best class by masks moves the boxes to 20-60, 14-54 (IoU 0.74) and, the object's, 30-70 (0.6).
    expected = (3 * surprise(BY_BOX, LABEL) + surprise(BY_BOX, background)) / 4
    assert found["class2"] == pytest.approx(expected, rel=1e-5)
    assert found["box2"] == pytest.approx((smooth_l1(10 * 6 / 40) + smooth_l1(10 * MOVE)) / 4, rel=1e-5)
    # The last mask is 50 to 70, an IoU of 400 / 1600: its box is positive and its mask is background.
    assert found["mask_class2"] == pytest.approx(sum(by_mask) / 2, rel=1e-5)
    # In 14 to 54, with cells of 5 pixels, x from 30 on covers four fifths of the fourth cell and all later ones.
    second = (7 * RIGHT + 0.2 * RIGHT + 0.8 * WRONG) / 8
    third = (2 * RIGHT + 6 * WRONG) / 8
    assert found["mask2"] == pytest.approx(((6 * RIGHT + 2 * WRONG) / 8 + second + third) / 3, rel=1e-5)


def test_the_mask_loss_has_a_weight():
    regions, given = fixed(), (maps(), proposals(), targets(mask=True), SIZES)
    whole = regions.losses(*given)
    regions.mnc = replace(regions.mnc, loss_weight=0.5)
    weighted = regions.losses(*given)
    for name, loss in whole.items():
        torch.testing.assert_close(weighted[name], loss / 2 if name in ("mask1", "mask2") else loss)


@pytest.mark.parametrize("positive, label", [(True, LABEL), (False, CLASSES)])
def test_an_instance_is_positive_if_its_box_is_too(positive, label):
    """In the object's box, the mask has an IoU of 2/3."""
    regions, drawn = fixed(), targets(mask=True)
    boxes = drawn.boxes[:, :1]
    flags = torch.tensor([[positive]])
    rois = SampledProposals(boxes, torch.zeros(1, 1, dtype=torch.int64), flags, torch.ones_like(flags))
    losses = regions.mask_losses(rois, regions.predict(maps(), boxes), drawn, drawn.masks)
    assert losses["mask_class"].item() == pytest.approx(surprise(BY_MASK, label), rel=1e-5)


def test_targets_without_masks_give_no_mask_losses():
    losses = fixed().losses(maps(), proposals(), targets(), SIZES)
    assert losses.keys() == {"class1", "box1", "class2", "box2"}


def test_mask_iou_counts_the_objects_area_outside_the_box():
    """One 5 x 5 cell is predicted, of an object with 50 pixels in the box and 50 outside."""
    drawn = torch.tensor([[[[True, False], [False, False]]]])
    wanted = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    found = mask_iou(drawn, wanted, torch.tensor([[[0.0, 0.0, 10.0, 10.0]]]), torch.tensor([[100.0]]))
    assert found.item() == pytest.approx(25 / 100)


def test_one_round_by_hand():
    """Compares with conv5 of the region and of the region times its mask, pooled by torchvision."""
    ops = pytest.importorskip("torchvision").ops
    regions, boxes = make(), torch.tensor([CANDIDATES[:2]])
    nn.init.normal_(regions.mask_head.pixels.weight)
    (stage,) = regions.stages
    with torch.no_grad():
        seen = regions.predict(maps(), boxes)
        pooled = ops.roi_align(maps()[0], [boxes[0]], 8, 1 / 16, 1, True)
        pooled = nn.functional.max_pool2d(pooled, 2)
        whole = stage.head.conv5_x(pooled)
        masks = regions.mask_head(whole)
        coarse = masks.sigmoid().view(2, 4, 2, 4, 2).mean((2, 4))  # 8 x 8 -> 4 x 4
        vectors = [stage.head.conv5_x(pooled * coarse[:, None]).mean((2, 3)), whole.mean((2, 3))]
        vectors = torch.cat(vectors, 1)
    assert torch.allclose(seen.masks[0], masks, atol=1e-5) and masks.std() > 0.1
    assert torch.allclose(seen.scores[0], stage.mask_scores(vectors), atol=1e-5)
    assert torch.allclose(seen.box_scores[0], stage.predictor.scores(vectors), atol=1e-5)
    assert torch.allclose(seen.deltas[0].flatten(1), stage.predictor.boxes(vectors), atol=1e-6)
    assert torch.allclose(
        regions.branches["mask"].predict(maps(), boxes, torch.zeros(1, 2, dtype=torch.int64)), seen.masks.sigmoid()
    )


# Gradients between the rounds


def gradient(loss: Tensor, parameter: Tensor) -> Tensor:
    return torch.autograd.grad(loss, parameter, retain_graph=True)[0]


def test_all_layers_have_gradients():
    regions = make()
    sum(regions.losses(maps(), proposals(), targets(mask=True), SIZES).values()).backward()
    for name, parameter in regions.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_class_losses_have_gradients_for_masks():
    regions = make()
    losses = regions.losses(maps(), proposals(), targets(mask=True), SIZES)
    for name in ("class1", "mask_class1", "mask_class2"):
        assert gradient(losses[name], regions.mask_head.pixels.bias).abs().sum() > 0


def test_the_second_round_has_gradients_for_boxes_of_the_first(monkeypatch):
    """The unlimited gradient of class2 equals its finite difference, as its labels do not change."""
    monkeypatch.setattr(module, "GRADIENT_SHARE", math.inf)
    regions = fixed()
    nn.init.normal_(regions.stages[0].predictor.scores.weight)
    bias = regions.stages[0].predictor.boxes.bias

    def loss() -> Tensor:
        torch.manual_seed(0)
        return regions.losses(maps(), proposals(), targets(mask=True), SIZES)["class2"]

    (found,) = torch.autograd.grad(loss(), bias)
    place, step = 4 * BEST, 0.003
    bias.data[place] += step
    more = loss().item()
    bias.data[place] -= 2 * step
    assert found[place].item() == pytest.approx((more - loss().item()) / (2 * step), rel=0.05)
    assert found[place].abs() > 1e-4
    assert found.view(CLASSES, 4)[:BEST].abs().sum() == 0  # other classes have no effect


def test_gradients_of_the_second_round_are_limited(monkeypatch):
    """Limits the gradient of each box parameter to 1/8 of 1/40 per region, for 40 sampled regions."""
    regions, found = fixed(), {}
    nn.init.normal_(regions.stages[0].predictor.scores.weight, std=1000)
    for pull in (module.GRADIENT_SHARE, math.inf):
        monkeypatch.setattr(module, "GRADIENT_SHARE", pull)
        losses = regions.losses(maps(), proposals(), targets(mask=True), SIZES)
        found[pull] = gradient(losses["class2"], regions.stages[0].predictor.boxes.bias).abs().max().item()
    valid = 4  # the other samples are padding with weight 0
    assert found[math.inf] > 1 and found[1 / 8] <= valid / 8 / 40 + 1e-6
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    limited, gauge = limit_gradient(x, 0.5)
    ((limited * torch.tensor([0.2, -4.0, 4.0])).sum() + gauge).backward()
    assert gauge.item() == 0 and x.grad.tolist() == pytest.approx([0.2, -0.5, 0.5])


@pytest.mark.parametrize("weight", [65536, 1 / 4], ids=["scaled for float16", "one of four parts"])
def test_the_limit_scales_with_the_weight_of_the_loss(weight):
    found = []
    for factor in (1, weight):
        regions = fixed()
        nn.init.normal_(regions.stages[0].predictor.scores.weight, std=1000)
        (factor * sum(regions.losses(maps(), proposals(), targets(mask=True), SIZES).values())).backward()
        found.append(regions.stages[0].predictor.boxes.bias.grad / factor)
    assert torch.allclose(*found, rtol=1e-5) and found[0].view(CLASSES, 4)[BEST].abs().sum() > 0


def test_targets_have_no_gradients():
    """The loss of the second round's boxes does not move its input boxes; class2, which is independent of them here,
    has the weight that limits their gradient."""
    regions, candidates = fixed(), proposals([*CANDIDATES, [6.0, 20.0, 46.0, 60.0]])
    losses = regions.losses(maps(), candidates, targets(mask=True), SIZES)
    moves = gradient(losses["box2"] + losses["class2"], regions.stages[0].predictor.boxes.bias).view(CLASSES, 4)
    assert moves[BEST].abs().sum() == 0 and moves[LABEL].abs().sum() > 0


def test_boxes_move_as_those_of_the_best_class_also_where_background_is_better():
    boxes, deltas = torch.tensor([[[20.0, 20.0, 60.0, 60.0]]]), torch.zeros(1, 1, CLASSES, 4)
    deltas[..., 0, 0] = 10 * MOVE
    moved = make().regress(boxes, torch.tensor([[[0.5, 0.2, 0.1, 3.0]]]), deltas, SIZES)
    torch.testing.assert_close(moved, torch.tensor([[[30.0, 20.0, 70.0, 60.0]]]))


# Inference


@torch.no_grad()
def test_detections_come_from_both_rounds():
    regions = fixed(score=0.0, nms=1.0)
    found = regions.detect(maps(), proposals(), SIZES, score=0.0)
    kept = found.valid[0]
    assert kept.sum() == 2 * len(CANDIDATES) * CLASSES  # padding gives none
    probabilities = torch.tensor(BY_MASK).softmax(0)
    for score, label in zip(found.scores[0][kept], found.labels[0][kept]):
        assert score.item() == pytest.approx(probabilities[label].item(), rel=1e-5)
    moved = [[x1 + MOVE * (x2 - x1), y1, x2 + MOVE * (x2 - x1), y2] for x1, y1, x2, y2 in CANDIDATES]
    for box in CANDIDATES + moved:
        assert ((found.boxes[0][kept] - torch.tensor(box)).abs().amax(1) < 1e-3).sum() == CLASSES


@torch.no_grad()
def test_duplicates_of_both_rounds_are_suppressed():
    """The first two candidates are 10-50 and 4-44, after the move 20-60 and 14-54: one of the four is kept."""
    found = fixed(score=0.0, nms=0.3).detect(maps(), proposals(), SIZES, score=0.4)
    assert found.labels[found.valid].tolist() == [BEST] * 2  # the other one is the candidate in the corner


# MNC in a detector

REFUSED = {
    "MNC supports c4 only": ["model.features=dc5"],
    "model.mask are both set": ["model.mask={}"],
    "box.ious has 2 entries": ["model.box.ious=[0.5,0.6]", "model.box.class_agnostic=true"],
    "MNC does not support context": ["model.box.context=true"],
    "model.mnc.width is 0": ["model.mnc.width=0"],
    "model.mnc.positive_iou is 2": ["model.mnc.positive_iou=2"],
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_incompatible_settings_are_refused(sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny.make("mnc", True, *REFUSED[sentence])


def test_a_new_classifier_keeps_the_mask_head(tmp_path):
    model, other = tiny.make("mnc"), tiny.make("mnc", True, "model.box.class_agnostic=true")
    weights.save(model, tmp_path / "model.safetensors", layout="safetensors")
    report = weights.load(other, tmp_path / "model.safetensors", new_classifier=True)
    stage = "roi_heads.stages.0"
    assert {line.split()[0].rpartition(".")[0] for line in report.mismatched} == {f"{stage}.predictor.boxes"}
    fewer = {name: tensor for name, tensor in model.state_dict().items() if "mask_scores" not in name}
    assert weights.load(other, fewer, new_classifier=True).missing
    for name, tensor in model.roi_heads.mask_head.state_dict().items():
        assert torch.equal(other.roi_heads.mask_head.state_dict()[name], tensor)


@pytest.mark.parametrize("layout", ["torchvision", "detectron2"])
def test_saving_in_other_libraries_layouts_is_refused(layout, tmp_path):
    with pytest.raises(WeightsError, match="no cascade of masks and classes: use the layout safetensors"):
        weights.save(tiny.make("mnc"), tmp_path / "model.pth", layout=layout)


# Training


def scenes(images: int) -> tuple[Tensor, Proposals, Targets, Tensor]:
    """Makes maps of 64 x 64 pixel images, each with an object whose mask is one of two triangles, one per class."""
    generator = torch.Generator().manual_seed(images)
    x, labels = torch.randn(images, 4, 16, 16, generator=generator) * 0.1, torch.arange(images)[:, None] % 2
    corners = torch.randint(0, 7, (images, 2), generator=generator)
    triangles = torch.ones(9, 9).tril()
    kinds = torch.stack([triangles, triangles.flip(1)])
    for image, label, (row, column) in zip(x, labels[:, 0], corners.tolist()):
        image[0, row : row + 9, column : column + 9] += kinds[label]
    boxes = torch.cat([corners.flip(1) * 4, corners.flip(1) * 4 + 36], 1)[:, None].float()
    yes = torch.ones(images, 1, dtype=torch.bool)
    near = boxes + 3 * torch.randn(images, 6, 4, generator=generator)
    candidates = Proposals(near, torch.zeros(images, 6), yes.expand(-1, 6))
    masks = (255 * kinds[labels]).to(torch.uint8)
    return x, candidates, Targets(boxes, labels, yes, ~yes, masks), torch.full((images, 2), 64.0)


@torch.no_grad()
def judged(regions: MNC) -> tuple[float, float]:
    """Returns the mean mask IoU in the objects' boxes and the share of best detections with the right class."""
    x, candidates, objects, sizes = scenes(50)
    drawn = regions.branches["mask"].predict([x], objects.boxes, objects.labels) > 0.5
    wanted = nn.functional.interpolate(objects.masks.float(), (DRAWN, DRAWN), mode="area") / 255
    iou = mask_iou(drawn, wanted, objects.boxes, module.mask_areas(objects.masks, objects.boxes)).mean().item()
    found = regions.detect([x], candidates, sizes, 0.0)
    return iou, (found.labels[:, 0] == objects.labels[:, 0]).float().mean().item()


def test_masks_and_classes_are_learned():
    regions = make(stride=4, size=6, classes=2)
    before, _ = judged(regions)
    optimizer = torch.optim.AdamW(regions.parameters(), lr=2e-2)
    for step in range(60):
        x, candidates, objects, sizes = scenes(8 + step % 5)
        optimizer.zero_grad()
        sum(regions.losses([x], candidates, objects, sizes).values()).backward()
        nn.utils.clip_grad_norm_(regions.parameters(), 1.0)
        optimizer.step()
    iou, right = judged(regions)
    assert before < 0.5 and iou > 0.8 and right > 0.9
