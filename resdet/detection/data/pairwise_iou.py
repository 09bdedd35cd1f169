"""IoU of pairs of boxes in NumPy; 0 for boxes that only touch."""

import numpy as np

from resdet.results.box_format import xywh_to_xyxy


def iou_xywh(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the pairwise IoU of boxes [p, 4] and [p, 4], x, y, width, height."""
    return _iou(xywh_to_xyxy(a), xywh_to_xyxy(b), a[:, 2:].prod(1) + b[:, 2:].prod(1))


def iou_xyxy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the pairwise IoU of boxes [p, 4] and [p, 4], x1, y1, x2, y2."""
    return _iou(a, b, (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1))


def _iou(a: np.ndarray, b: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Returns the IoU of xyxy boxes; `areas` [p]: sums of the two areas."""
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0).prod(1)
    return np.divide(shared, areas - shared, out=np.zeros_like(shared), where=shared > 0)
