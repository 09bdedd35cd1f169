"""Tests conversions of boxes against torchvision."""

import numpy as np
import torch
from torchvision.ops import box_convert

from resdet.results.box_format import xywh_to_xyxy


def test_xywh_to_xyxy_matches_torchvision():
    boxes = np.random.default_rng(0).uniform(0, 50, (5, 4))
    expected = box_convert(torch.from_numpy(boxes), "xywh", "xyxy").numpy()
    np.testing.assert_allclose(xywh_to_xyxy(boxes), expected)
    np.testing.assert_allclose(xywh_to_xyxy(boxes[0]), expected[0])
