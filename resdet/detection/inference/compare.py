"""The detections of one program beside those of another in the same image."""

from typing import NamedTuple, Protocol

import numpy as np
import torch

from resdet.ops.masks import overlaps


class HasDetections(Protocol):
    """What is compared of n detections; a `Result` has it."""

    boxes: np.ndarray  # [n, 4], xyxy
    scores: np.ndarray  # [n]
    labels: np.ndarray  # [n]
    masks: np.ndarray | None  # bool [n, H, W]


class DetectionTuple(NamedTuple):
    """Another program's detections."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


class Pairs(NamedTuple):
    """The n detections that have a partner, and how far each is from it."""

    expected: np.ndarray  # [n], rising: which they are
    found: np.ndarray  # [n]: their partners; two may have the same
    pixels: np.ndarray  # [n]: between the sides of the boxes, the largest of four
    scores: np.ndarray  # [n]
    ious: np.ndarray | None  # [n]: of the masks, where both have some

    def __len__(self) -> int:
        return len(self.expected)


def pair(expected: HasDetections, found: HasDetections, pixels: float, scores: float) -> Pairs:
    """Each of `expected` with the nearest box of its class among `found`, as scores that are all but equal may change
    places. A pair's boxes differ by `pixels` at most, and its scores by `scores`."""
    apart = np.abs(expected.boxes[:, None] - found.boxes).max(2)
    apart[expected.labels[:, None] != found.labels] = np.inf
    near = np.flatnonzero(np.isfinite(apart.min(1, initial=np.inf)))
    nearest = apart[near].argmin(1) if len(near) else near
    distances, differences = apart[near, nearest], np.abs(expected.scores[near] - found.scores[nearest])
    kept = (distances <= pixels) & (differences <= scores)
    own, partners = near[kept], nearest[kept]
    ious = None
    if expected.masks is not None and found.masks is not None:
        ious = overlaps(torch.from_numpy(expected.masks[own]), torch.from_numpy(found.masks[partners])).numpy()
    return Pairs(own, partners, distances[kept], differences[kept], ious)
