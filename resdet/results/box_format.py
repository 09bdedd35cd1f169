"""Conversion of boxes between formats."""

import numpy as np


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Boxes [..., 4] as COCO writes them, x, y, width, height, of corners [..., 4]."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Corners [..., 4] of boxes [..., 4] as COCO writes them: x, y, width, height."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)
