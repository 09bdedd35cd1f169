"""Compares the detections of two programs in an image."""

from typing import NamedTuple, Protocol

import numpy as np
import torch

from resdet.ops.masks import overlaps


class HasDetections(Protocol):
    """Compared fields of n detections, such as a `Result` or a `DetectionTuple`."""

    @property
    def boxes(self) -> np.ndarray: ...  # [n, 4], xyxy

    @property
    def scores(self) -> np.ndarray: ...  # [n]

    @property
    def labels(self) -> np.ndarray: ...  # [n]

    @property
    def masks(self) -> np.ndarray | None: ...  # bool [n, H, W]

    @property
    def keypoints(self) -> np.ndarray | None: ...  # [n, K, 3]: x, y, score


class DetectionTuple(NamedTuple):
    """Detections of another program."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None


class Pairs(NamedTuple):
    """n matched detections, and their differences from their matches."""

    expected: np.ndarray  # [n]: indices of expected detections, ascending
    actual: np.ndarray  # [n]: indices of their matches, with possible repetitions
    pixels: np.ndarray  # [n]: largest difference of the four box sides
    scores: np.ndarray  # [n]: differences of the scores
    ious: np.ndarray | None  # [n]: IoU of the masks, if both have masks
    keypoints: np.ndarray | None  # [n, K]: largest difference of keypoint x and y, if both have keypoints

    def __len__(self) -> int:
        return len(self.expected)

    @property
    def mean_iou(self) -> float | None:
        """The mean mask IoU, since rounding may flip a pixel of a small mask; None without masks or pairs."""
        return None if self.ious is None or not len(self) else float(self.ious.mean())

    def note(self, count: int) -> str:
        """Describes how well `count` expected detections agree."""
        text = f"{len(self)} of {count} detections agree, boxes within {self.pixels.max(initial=0):.1e} pixels"
        text += f", scores within {self.scores.max(initial=0):.1e}"
        return text if self.mean_iou is None else f"{text}, masks with a mean IoU of {self.mean_iou:.4f}"


def pair(expected: HasDetections, actual: HasDetections, pixels: float, scores: float) -> Pairs:
    """Matches each expected detection to the nearest box of its class in `actual`, not by rank, since nearly equal
    scores may swap ranks. Boxes of a pair differ by at most `pixels`, scores by at most `scores`."""
    offsets = np.abs(expected.boxes[:, None] - actual.boxes).max(2)
    offsets[expected.labels[:, None] != actual.labels] = np.inf
    rows = np.flatnonzero(np.isfinite(offsets.min(1, initial=np.inf)))
    nearest = offsets[rows].argmin(1) if len(rows) else rows
    distances, differences = offsets[rows, nearest], np.abs(expected.scores[rows] - actual.scores[nearest])
    kept = (distances <= pixels) & (differences <= scores)
    rows, matches = rows[kept], nearest[kept]
    ious = None
    if expected.masks is not None and actual.masks is not None:
        ious = overlaps(torch.from_numpy(expected.masks[rows]), torch.from_numpy(actual.masks[matches])).numpy()
    apart = None
    if expected.keypoints is not None and actual.keypoints is not None:
        apart = np.abs(expected.keypoints[rows] - actual.keypoints[matches])[..., :2].max(2)
    return Pairs(rows, matches, distances[kept], differences[kept], ious, apart)
