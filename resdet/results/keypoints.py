"""Keypoints of detections in COCO's format."""

from typing import Any

import numpy as np

HALF = 0.5  # (0, 0) in COCO's files is the center of the first pixel: (0.5, 0.5) in continuous coordinates


def keypoints_to_coco(keypoints: np.ndarray) -> dict[str, Any]:
    """Converts the keypoints [K, 3] of a detection to keys of a COCO result: visibility 1, scores in a separate key."""
    points = np.asarray(keypoints, np.float64) - (HALF, HALF, 0)
    points[:, 2] = 1
    return {"keypoints": points.flatten().tolist(), "keypoint_scores": keypoints[:, 2].astype(float).tolist()}
