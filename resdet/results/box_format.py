"""Conversion of boxes between formats."""

import numpy as np


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Converts corners [..., 4] to COCO's boxes [..., 4]: x, y, width, height."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Converts COCO's boxes [..., 4] (x, y, width, height) to corners [..., 4]."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)
