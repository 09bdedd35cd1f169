"""The improvements of appendix B each raise AP on generated images made to show their effect.

Two small detectors learn squares of 12 to 24 pixels, one of them only the flat ones and the other only the striped
ones; each treats squares of the other kind as background.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from detection.inference import micro
from torch import nn

from resdet.detection.heads.anchors import Anchors
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.tta import EnsembleDetector

pytest.importorskip("torchvision")

STEPS = 120


def scenes(seed: int, count: int, kinds=(0, 1), size: int = 64, sides=(12, 24)) -> list[micro.Scene]:
    """Makes scenes in which only these kinds of squares are objects."""
    rng = np.random.default_rng(seed)
    return [of_kinds(micro.scene(rng, sides, size), kinds) for _ in range(count)]


def of_kinds(scene: micro.Scene, kinds) -> micro.Scene:
    pixels, boxes, labels = scene
    kept = [i for i, label in enumerate(labels) if label in kinds]
    return pixels, [boxes[i] for i in kept], [labels[i] for i in kept]


@pytest.fixture(scope="module")
def specialists():
    """Returns a detector of flat squares and one of striped squares."""
    learn = lambda kind: lambda rng: of_kinds(micro.scene(rng, (12, 24), count=3), (kind,))
    return [micro.train(micro.make(kind), learn(kind), STEPS, seed=kind) for kind in (0, 1)]


def test_refinement_raises_ap_at_high_iou(specialists):
    """AP rises most at high IoU, as a second pass corrects part of a box's error."""
    for kind, net in enumerate(specialists):
        judged = scenes(99, 30, (kind,))
        plain = micro.figures(net, judged)
        refined = micro.figures(EnsembleDetector([net], TTAConfig(refine=True)), judged)
        assert refined["AP75"] > plain["AP75"] + 0.05 and refined["AP"] > plain["AP"]
        assert refined["AP50"] > plain["AP50"] - 0.02


def test_several_scales_find_objects_far_outside_the_training_scale(specialists):
    """Images are three times as large: their stripes are too wide for a detector trained on narrow ones.

    The paper tests regions, not proposals, at several scales, so proposals here are a grid of the right sizes.
    """
    net = copy.deepcopy(specialists[1])
    judged = [
        (pixels.repeat(3, 0).repeat(3, 1), [[3 * side for side in box] for box in boxes], labels)
        for pixels, boxes, labels in scenes(98, 6, (1,), 48, (14, 24))
    ]
    net.input = replace(net.input, min_size=144, max_size=144)
    net.rpn.config = replace(net.rpn.config, pre_nms=(1, 4000), post_nms=(1, 4000), nms=1.0)
    net.rpn.anchors = Anchors([[42, 56, 70]], [1.0], False)
    nn.init.zeros_(net.rpn.deltas.weight)
    nn.init.zeros_(net.rpn.deltas.bias)
    plain = micro.figures(net, judged)
    several = micro.figures(EnsembleDetector([net], TTAConfig(scales=[36, 48, 64, 96, 144])), judged)
    assert plain["AP50"] < 0.1 and several["AP50"] > 0.8


def test_an_ensemble_of_two_beats_both(specialists):
    judged = scenes(97, 30)
    alone = [micro.figures(net, judged)["AP"] for net in specialists]
    together = micro.figures(EnsembleDetector(specialists), judged)["AP"]
    assert min(alone) > 0.1 and together > max(alone) + 0.1


def test_flip_finds_objects_in_a_half_without_features(specialists):
    """The detector's features are zero in the right half of each image."""
    net = copy.deepcopy(specialists[1])
    left = lambda maps: torch.arange(maps.shape[-1]) < maps.shape[-1] / 2
    net.backbone.conv2_x.register_forward_hook(lambda layer, images, maps: maps * left(maps))
    judged = scenes(96, 30, (1,))
    plain, mirrored = (micro.figures(each, judged) for each in (net, EnsembleDetector([net], TTAConfig(flip=True))))
    assert mirrored["AP50"] > plain["AP50"] + 0.15
