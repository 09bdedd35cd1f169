"""IoU of pairs of boxes, in NumPy."""

import numpy as np


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes [p, 4] and [p, 4], x, y, width, height; 0 if they only touch."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = (high - low).clip(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
