"""Tests the initial weights of heads against the standard deviations of the papers and of He et al. (2015)."""

import pytest
import torch
from torch import nn

from resdet.detection.heads.box_head import Conv5Head, ConvFCHead, FastRCNNPredictor
from resdet.detection.heads.config import AnchorConfig, RPNConfig
from resdet.detection.heads.keypoint_head import KeypointHead
from resdet.detection.heads.mask_head import MaskHead
from resdet.detection.heads.mnc import AgnosticMaskHead, MaskedStage
from resdet.detection.heads.rpn import RPN


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def check(layer: nn.Module, std: float) -> None:
    """Checks weights of mean 0 and this standard deviation, of which 2000 give 2% of error, and biases of 0."""
    assert layer.weight.numel() >= 2000
    assert layer.weight.std().item() == pytest.approx(std, rel=0.15)
    assert abs(layer.weight.mean().item()) < 0.15 * std
    assert not layer.bias.any()


def test_rpn_has_a_deviation_of_one_hundredth():
    """Faster R-CNN, section 3.1.3."""
    rpn = RPN(RPNConfig(AnchorConfig([[32, 64, 128]])), 256, [16], [[32, 64, 128]])
    for layer in (*rpn.convs, rpn.objectness, rpn.deltas):
        check(layer, 0.01)


def test_scores_and_boxes_of_fast_rcnn():
    """Fast R-CNN, section 2.3."""
    predictor = FastRCNNPredictor(512, 20, class_agnostic=False)
    check(predictor.scores, 0.01)
    check(predictor.boxes, 0.001)
    check(FastRCNNPredictor(512, 20, class_agnostic=True).boxes, 0.001)


def test_box_head():
    head = ConvFCHead(16, 4, convs=2, conv_width=32, norm=None, linears=2, width=64)
    for unit in head.convs:
        check(unit.conv, (2 / (9 * 32)) ** 0.5)
    check(head.linears[0], (1 / (32 * 16)) ** 0.5)
    check(head.linears[1], (1 / 64) ** 0.5)


def test_mask_head():
    head = MaskHead(16, 2, 32, norm=None, classes=80)
    for unit in head.convs:
        check(unit.conv, (2 / (9 * 32)) ** 0.5)
    check(head.upsample, (2 / (4 * 32)) ** 0.5)
    check(head.masks, 0.001)


def test_keypoint_head():
    head = KeypointHead(16, 2, 32, norm=None, keypoints=17)
    for unit in head.convs:
        check(unit.conv, (2 / (9 * 32)) ** 0.5)
    check(head.heatmaps, (2 / (16 * 32)) ** 0.5)


def test_cascade_of_masks():
    head = AgnosticMaskHead(64, 4, 32, resolution=28)
    check(head.reduce, (2 / 64) ** 0.5)
    check(head.hidden, (2 / (32 * 16)) ** 0.5)
    check(head.pixels, 0.001)
    stage = MaskedStage(Conv5Head(nn.Identity(), 64), 20, class_agnostic=False)
    check(stage.mask_scores, 0.01)
