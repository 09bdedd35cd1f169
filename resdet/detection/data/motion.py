"""Motion IoU: the speed of an object in a video (Flow-Guided Feature Aggregation, 1703.10025)."""

import numpy as np

from resdet.detection.data.pairwise_iou import iou_xywh

NEARBY = 10  # frames before and after


def instance_ids(videos: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """Numbers instances across videos [m], from 1; `tracks` int64 [m] are numbered within their video [m]."""
    return np.unique(np.stack([videos, tracks], 1), axis=0, return_inverse=True)[1].reshape(-1) + 1


def motion_ious(instances: np.ndarray, frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns the mean IoU [m] of each box with the same instance's boxes in the 10 frames before and after it.

    `instances` and `frames` are int64 [m], frames numbered within their video; boxes are float64 [m, 4], x, y, width,
    height. An instance without a box in these frames gets 1, as in FGFA's published values.
    """
    span = frames.max(initial=0) + 2 * NEARBY + 1  # keeps frames beyond a video's apart from the next instance's
    keys = instances * span + frames
    order = np.argsort(keys, kind="stable")
    total, count = np.zeros(len(keys)), np.zeros(len(keys))
    for offset in (*range(-NEARBY, 0), *range(1, NEARBY + 1)):
        place = np.searchsorted(keys, keys + offset, sorter=order).clip(max=len(keys) - 1)
        other = order[place]
        there = np.flatnonzero(keys[other] == keys + offset)
        total[there] += iou_xywh(boxes[there], boxes[other[there]])
        count[there] += 1
    return np.divide(total, count, out=np.ones_like(total), where=count > 0)
