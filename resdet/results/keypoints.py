"""Keypoints of detections in COCO's format."""

from typing import Any

import numpy as np

HALF = 0.5  # COCO's files count pixels, and (0, 0) is the center of the first: (0.5, 0.5) in continuous pixels


def keypoints_to_coco(keypoints: np.ndarray) -> dict[str, Any]:
    """Keys of a COCO result from the keypoints [K, 3] of a detection; the visibility is 1, scores have a key."""
    points = np.asarray(keypoints, np.float64) - (HALF, HALF, 0)
    points[:, 2] = 1
    return {"keypoints": points.flatten().tolist(), "keypoint_scores": keypoints[:, 2].astype(float).tolist()}
