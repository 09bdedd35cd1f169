"""Findings about training with a config: objects without a matching anchor, too small, or beyond max_objects, and rare
classes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from resdet.detection.check.anchors import IOU, AnchorGrid, better_anchors, recall
from resdet.detection.check.objects import ObjectTable
from resdet.detection.data.class_balance import repeat_factors
from resdet.detection.data.config import ScenesConfig

TINY = 4.0  # pixels; objects with a shorter side below this at the training scale vanish
UNFITTED = 0.05  # minimum share of objects without an anchor for a finding
RARE = 20  # factor by which a rare class has fewer images than the most frequent one


@dataclass
class AnchorFit:
    """Fit of the anchors to the objects, excluding crowds and vanishing objects."""

    recall: float  # share of objects with an anchor of IoU 0.5 or more
    unmatched: np.ndarray  # int64 [k]: indices of objects without such an anchor
    count: int  # number of objects
    better: AnchorGrid | None = None  # anchors with a higher recall
    better_recall: float = 0.0

    @property
    def too_low(self) -> bool:
        return 1 - self.recall > UNFITTED


@dataclass
class Imbalance:
    """Images per class in an epoch, uniform and with data.sampling=repeat_factor."""

    uniform: np.ndarray  # int64 [C]
    repeated: np.ndarray  # float [C]
    threshold: float  # data.repeat_threshold
    epoch: float  # images per epoch with repeat_factor

    def rare(self) -> np.ndarray:
        """Returns labels of classes with objects but far fewer images than the most frequent class, int64 [k]."""
        most = self.uniform.max(initial=0)
        return np.flatnonzero((self.uniform > 0) & (self.uniform * RARE <= most))


def tiny(table: ObjectTable, data: ScenesConfig) -> np.ndarray:
    """Returns objects whose shorter side at the training scale is below `TINY`, int64 [k]."""
    boxes, _ = table.resized(data.augment)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf)
    return np.flatnonzero((sides < TINY) & ~table.crowd)


def crowded(table: ObjectTable, data: ScenesConfig) -> Iterator[tuple[int, int]]:
    """Yields images with more objects than data.max_objects, and their number of objects."""
    counts = np.bincount(table.images, minlength=len(table.sizes))
    for image in np.flatnonzero(counts > data.max_objects).tolist():
        yield image, int(counts[image])


def fit_anchors(table: ObjectTable, data: ScenesConfig, grid: AnchorGrid, search: bool) -> AnchorFit:
    """Computes the fit of the anchors; with `search`, also looks for better ones if too few objects have an anchor."""
    kept = np.setdiff1d(np.flatnonzero(~table.crowd), tiny(table, data))
    boxes, sizes = table.resized(data.augment)
    boxes, images = boxes[kept], sizes[table.images[kept]]
    if not len(kept):
        return AnchorFit(1.0, kept, 0)
    matched = grid.best_ious(boxes, images) >= IOU
    fit = AnchorFit(float(matched.mean()), kept[~matched], len(kept))
    if search and fit.too_low:
        better, better_recall = better_anchors(grid, boxes, images)
        if better != grid and better_recall > fit.recall:
            fit.better, fit.better_recall = better, recall(better, boxes, images)
    return fit


def imbalance(table: ObjectTable, data: ScenesConfig) -> Imbalance:
    """Uses data.repeat_threshold or, if no class is below it, the image share of the most frequent class."""
    images, labels = table.presence()
    count = len(table.sizes)
    uniform = np.bincount(labels, minlength=len(table.classes))
    shares = uniform[uniform > 0] / max(1, count)
    threshold = data.repeat_threshold if (shares < data.repeat_threshold).any() else float(shares.max(initial=0))
    copies = repeat_factors(images, labels, count, threshold) if len(images) else np.ones(count)
    repeated = np.bincount(labels, copies[images], minlength=len(table.classes))
    return Imbalance(uniform, repeated, threshold, float(copies.sum()))
