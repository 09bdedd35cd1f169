"""Findings about a training with a config: objects that no anchor matches, that are too small or exceed max_objects,
and rare classes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from resdet.detection.check.anchors import IOU, AnchorGrid, better_anchors, recall
from resdet.detection.check.objects import ObjectTable
from resdet.detection.data.class_balance import repeat_factors
from resdet.detection.data.config import ScenesConfig

TINY = 4.0  # pixels; shorter side at the training scale below which an object vanishes
UNFITTED = 0.05  # share of objects without an anchor from which it is a finding
RARE = 20  # times fewer images than the most frequent class


@dataclass
class AnchorFit:
    """The fit of the anchors to the objects, without crowds and vanishing objects."""

    recall: float  # share of objects with an anchor of IoU 0.5 or more
    unmatched: np.ndarray  # int64 [k]: indices of the objects without one
    count: int  # of objects
    better: AnchorGrid | None = None  # anchors of a higher recall
    better_recall: float = 0.0

    @property
    def too_low(self) -> bool:
        return 1 - self.recall > UNFITTED


@dataclass
class Imbalance:
    """Images per class in an epoch, as they are and with data.sampling=repeat_factor."""

    uniform: np.ndarray  # int64 [C]
    repeated: np.ndarray  # float [C]
    threshold: float  # data.repeat_threshold
    epoch: float  # images of an epoch with repeat_factor

    def rare(self) -> np.ndarray:
        """int64 [k]: labels of classes with objects and far fewer images than the most frequent one."""
        most = self.uniform.max(initial=0)
        return np.flatnonzero((self.uniform > 0) & (self.uniform * RARE <= most))


def tiny(table: ObjectTable, data: ScenesConfig) -> np.ndarray:
    """int64 [k]: objects whose shorter side at the training scale is below `TINY`."""
    boxes, _ = table.resized(data.augment)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf)
    return np.flatnonzero((sides < TINY) & ~table.crowd)


def crowded(table: ObjectTable, data: ScenesConfig) -> Iterator[tuple[int, int]]:
    """Images with more objects than data.max_objects, and their number of objects."""
    counts = np.bincount(table.images, minlength=len(table.sizes))
    for image in np.flatnonzero(counts > data.max_objects).tolist():
        yield image, int(counts[image])


def fit_anchors(table: ObjectTable, data: ScenesConfig, grid: AnchorGrid, search: bool) -> AnchorFit:
    """`search`: also look for better anchors, if too few objects have one."""
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
    """With data.repeat_threshold, or the share of images of the most frequent class if no class is below it."""
    images, labels = table.presence()
    count = len(table.sizes)
    uniform = np.bincount(labels, minlength=len(table.classes))
    shares = uniform[uniform > 0] / max(1, count)
    threshold = data.repeat_threshold if (shares < data.repeat_threshold).any() else float(shares.max(initial=0))
    copies = repeat_factors(images, labels, count, threshold) if len(images) else np.ones(count)
    repeated = np.bincount(labels, copies[images], minlength=len(table.classes))
    return Imbalance(uniform, repeated, threshold, float(copies.sum()))
