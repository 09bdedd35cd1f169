"""Recall and fit of the anchors, compared with all anchors of the RPN at all positions."""

import numpy as np
import pytest
import torch
from detection.heads import tiny
from torchvision.ops import box_iou

from resdet import config
from resdet.detection.check.anchors import AnchorGrid, better_anchors, grid_of, recall
from resdet.detection.check.fit import fit_anchors, imbalance
from resdet.detection.check.objects import ObjectTable, training_sides
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.config import ScenesConfig


def grid_of_model(model) -> AnchorGrid:
    return AnchorGrid.of(config.from_dict(model.experiment).model, model.rpn.strides)


def random_boxes(rng: np.random.Generator, width: int, height: int, count: int) -> np.ndarray:
    sides = np.exp(rng.uniform(np.log(3), np.log([width, height]), (count, 2)))
    low = rng.uniform(0, 1, (count, 2)) * ([width, height] - sides)
    return np.concatenate([low, low + sides], 1)


@pytest.mark.parametrize("family", ["fpn", "c4"])
@pytest.mark.parametrize("inside_only", ["false", "true"])
@pytest.mark.parametrize("style", ["exact", "torchvision"])
@pytest.mark.parametrize("width, height", [(96, 64), (75, 120), (33, 40)])
def test_the_best_iou_is_that_of_all_anchors(family, inside_only, style, width, height):
    words = [f"model.rpn.inside_only={inside_only}", f"model.rpn.anchors.style={style}"]
    words.append("model.rpn.anchors.ratios=[0.4,1]")
    model = tiny.make(family, False, *words)
    padded = [-(-side // 32) * 32 for side in (height, width)]
    maps = [torch.zeros(1, 1, -(-padded[0] // stride), -(-padded[1] // stride)) for stride in model.rpn.strides]
    anchors = torch.cat(model.rpn.anchors(maps, model.rpn.strides, padded))
    usable = model.rpn.usable(anchors, torch.tensor([[height, width]], dtype=torch.float32))[0]
    boxes = random_boxes(np.random.default_rng(3), width, height, 300)
    ious = box_iou(torch.from_numpy(boxes), anchors[usable].double())
    expected = ious.max(1).values.numpy() if usable.any() else np.zeros(len(boxes))
    found = grid_of_model(model).best_ious(boxes, np.tile([width, height], (len(boxes), 1)).astype(float))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "words, strides, count",
    [
        (["model.features=fpn"], (4, 8, 16, 32, 64), 15),
        (["model.features=c4"], (16,), 15),
        (["model.features=dc5"], (16,), 15),
        (["model.features=vgg", "model.backbone=vgg16"], (16,), 15),
    ],
)
def test_anchors_are_computed_from_a_config(words, strides, count):
    model = config.load("custom.yaml", "model.backbone=resnet18", "model.freeze_stages=0", *words).model
    found = grid_of(model)
    assert found.strides == strides and sum(map(len, found.sizes)) * len(found.ratios) == count


def plain(sizes, strides=(8,), ratios=(1.0,)) -> AnchorGrid:
    return AnchorGrid(tuple(strides), tuple(map(tuple, sizes)), ratios, False, False, 32)


def test_better_anchors_fit_objects_that_the_given_ones_do_not():
    rng = np.random.default_rng(0)
    width = np.exp(rng.normal(np.log(18), 0.2, 400))
    height = width * np.exp(rng.normal(np.log(6), 0.1, 400))  # tall and thin
    low = rng.uniform(0, 1, (400, 2)) * (600 - np.stack([width, height], 1))
    boxes = np.concatenate([low, low + np.stack([width, height], 1)], 1)
    images = np.full((400, 2), 600.0)
    given = AnchorGrid((4, 8, 16, 32, 64), ((32,), (64,), (128,), (256,), (512,)), (0.5, 1.0, 2.0), False, False, 32)
    assert recall(given, boxes, images) < 0.2
    better, found = better_anchors(given, boxes, images)
    assert found > 0.95 and found == recall(better, boxes, images)
    anchors = config.load("custom.yaml", *better.line.split()).model.rpn.anchors
    assert tuple(map(tuple, anchors.sizes)) == better.sizes and tuple(anchors.ratios) == better.ratios


def table(boxes, labels=None, images=None, size=(100, 100), count=None, classes=("a", "b")) -> ObjectTable:
    boxes = np.array(boxes, float).reshape(-1, 4)
    images = np.zeros(len(boxes), int) if images is None else np.array(images)
    labels = np.zeros(len(boxes), int) if labels is None else np.array(labels)
    sizes = np.tile(size, (count or images.max(initial=0) + 1, 1))
    return ObjectTable(sizes, images, boxes, labels, np.zeros(len(boxes), bool), list(classes))


def test_the_fit_counts_objects_at_the_training_scale():
    boxes = [[0, 0, 8, 8], [10, 10, 14, 42], [20, 20, 36, 36], [50, 50, 51, 60]]
    data = ScenesConfig(augment=SceneConfig(min_size=[200], max_size=400))
    fit = fit_anchors(table(boxes), data, plain([[16, 32]], strides=(4,)), search=False)
    assert fit.count == 3  # the last object is two pixels wide
    assert fit.unmatched.tolist() == [1] and fit.recall == pytest.approx(2 / 3) and fit.too_low


@pytest.mark.parametrize(
    "augment, expected",
    [
        (SceneConfig(min_size=[100, 300, 200], max_size=400), (200, 400)),
        (SceneConfig(min_size=[100, 200], min_size_sampling="range", max_size=400), (150, 400)),
        (SceneConfig(scale_jitter=(0.5, 1.5), jitter_size=64), (64, 64)),
    ],
)
def test_the_training_scale_is_the_middle_of_the_range(augment, expected):
    assert training_sides(augment) == expected


def test_repeat_factors_are_the_root_of_the_inverse_share():
    """One class is in 1 of 64 images and one in all: threshold 1, and a factor of sqrt(64) for the rare image."""
    images = [*range(64), 5]
    found = imbalance(table(np.tile([0, 0, 9, 9], (65, 1)), [0] * 64 + [1], images), ScenesConfig())
    assert found.threshold == 1 and found.rare().tolist() == [1]
    assert found.uniform.tolist() == [64, 1] and found.repeated.tolist() == [71, 8] and found.epoch == 71
    lvis = imbalance(table(np.tile([0, 0, 9, 9], (65, 1)), [0] * 64 + [1], images), ScenesConfig(repeat_threshold=0.25))
    assert lvis.threshold == 0.25 and lvis.repeated.tolist() == [67, 4]
