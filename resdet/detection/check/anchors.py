"""Recall of the anchors: objects without a sufficiently overlapping anchor, and anchors with a better fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from resdet.detection.build import anchor_sizes, build_backbone, build_maps
from resdet.detection.config import DetectorConfig
from resdet.detection.heads.anchors import cell

IOU = 0.5
SAMPLE = 3000  # objects used in the search
GOOD = 0.99  # recall at which the search stops adding anchors
LENGTHS = (1, 2, 3)  # sizes per level, with a pyramid
SINGLE_LENGTHS = (3, 4, 5, 6)  # with one level
RATIO_COUNTS = (3, 5)
ROUNDS = 50  # of k-means


@dataclass(frozen=True)
class AnchorGrid:
    """Anchors of a detector, without their positions."""

    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]  # per level
    ratios: tuple[float, ...]  # height to width
    rounded: bool  # in torchvision's style
    inside_only: bool
    divisor: int  # of the sides of padded images

    @classmethod
    def of(cls, config: DetectorConfig, strides: Sequence[int]) -> "AnchorGrid":
        """Creates the grid of a config; `strides`: those of the RPN's levels."""
        rpn, levels = config.rpn, anchor_sizes(config, len(strides))
        return cls(
            tuple(strides), tuple(tuple(sides) for sides in levels), tuple(rpn.anchors.ratios),
            rpn.anchors.style == "torchvision", rpn.inside_only, config.input.divisor,
        )  # fmt: skip

    @property
    def line(self) -> str:
        """The anchors as config overrides."""
        sizes = ",".join("[" + ",".join(f"{side:.6g}" for side in sides) + "]" for sides in self.sizes)
        ratios = ",".join(f"{ratio:g}" for ratio in self.ratios)
        return f"model.rpn.anchors.sizes=[{sizes}] model.rpn.anchors.ratios=[{ratios}]"

    def best_ious(self, boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the IoU, float64 [M], of each box xyxy [M, 4] with the best anchor in its image of size `images`
        [M, 2] (width, height).

        IoU with anchors of a given shape decreases with the distance of the centers in x and y, so the best position is
        the nearest usable one.
        """
        best = np.zeros(len(boxes))
        for stride, sides in zip(self.strides, self.sizes):
            for half in cell(sides, self.ratios, self.rounded).double().numpy()[:, 2:]:
                best = np.maximum(best, self._ious(boxes, images, stride, half))
        return best

    def _ious(self, boxes: np.ndarray, images: np.ndarray, stride: int, half: np.ndarray) -> np.ndarray:
        """Returns the IoU of each box with the nearest anchor of a level, of half sides `half` [2]; 0 if there is
        none."""
        padded = -(-images // self.divisor) * self.divisor
        margin = half if self.inside_only else np.zeros(2)
        first = np.ceil(margin / stride)
        last = np.minimum(np.floor((images - margin) / stride), -(-padded // stride) - 1)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        positions = np.clip(np.rint(centers / stride), first, np.maximum(first, last)) * stride
        sides = np.minimum(boxes[:, 2:], positions + half) - np.maximum(boxes[:, :2], positions - half)
        shared = sides.clip(0).prod(1) * (last >= first).all(1)
        return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (2 * half).prod() - shared)


def grid_of(config: DetectorConfig) -> AnchorGrid:
    """Returns the anchors of a config; builds its nets without allocating weights."""
    import torch

    with torch.device("meta"):
        net, _ = build_backbone(replace(config, backbone=config.backbone.for_checkpoint()))
        maps = build_maps(config, net)
    return AnchorGrid.of(config, [maps.strides[level] for level in maps.levels])


def better_anchors(grid: AnchorGrid, boxes: np.ndarray, images: np.ndarray) -> tuple[AnchorGrid, float]:
    """Searches for anchors with the best recall on boxes [M, 4] in images [M, 2]; returns them and the recall.

    Sizes and ratios are k-means centers, or evenly spaced between the extremes, both on a logarithmic scale. They apply
    to all levels, or to the finer half, since anchors of coarse levels are far apart. Among grids with a recall of
    `GOOD`, the one with the fewest anchors is chosen.
    """
    step = -(-len(boxes) // SAMPLE)
    boxes, images = boxes[::step], images[::step]
    best, best_recall = grid, recall(grid, boxes, images)
    for candidate in _candidates(grid, boxes):
        if best_recall >= GOOD:
            break
        candidate_recall = recall(candidate, boxes, images)
        if candidate_recall > best_recall:
            best, best_recall = candidate, candidate_recall
    return best, best_recall


def recall(grid: AnchorGrid, boxes: np.ndarray, images: np.ndarray) -> float:
    """Returns the share of boxes with an anchor of IoU 0.5 or more."""
    return float((grid.best_ious(boxes, images) >= IOU).mean())


def _candidates(grid: AnchorGrid, boxes: np.ndarray) -> Iterator[AnchorGrid]:
    """Yields grids by ascending number of anchors."""
    width, height = np.log(boxes[:, 2:] - boxes[:, :2]).T
    levels = len(grid.strides)
    lengths = SINGLE_LENGTHS if levels == 1 else LENGTHS
    shapes = product(RATIO_COUNTS, lengths, dict.fromkeys((levels, -(-levels // 2))))
    for count, length, filled in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        for sizes in _centers((width + height) / 2, filled * length):
            sides = _rounded([sizes], 0)[0]
            split = [tuple(sides[k * length : (k + 1) * length]) for k in range(filled)]
            split += [
                tuple(round(max(level) * 2 ** (k / length)) for k in range(length)) for level in grid.sizes[filled:]
            ]
            for ratios in (grid.ratios, *map(tuple, _rounded(_centers(height - width, count), 2))):
                yield replace(grid, sizes=tuple(split), ratios=tuple(ratios))


def _rounded(logarithms: Sequence[np.ndarray], digits: int) -> list[list[float]]:
    return [np.exp(each).round(digits).clip(10.0**-digits).tolist() for each in logarithms]


def _centers(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Returns ascending centers of `values`: from k-means, and evenly spaced between the 1st and 99th percentiles."""
    low, high = np.quantile(values, (0.01, 0.99)).tolist()
    even = np.linspace(low, high, count)
    centers = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(ROUNDS):
        nearest = np.abs(values[:, None] - centers).argmin(1)
        counts = np.bincount(nearest, minlength=count)
        sums = np.bincount(nearest, values, count)
        moved = np.where(counts > 0, sums / counts.clip(1), centers)
        if np.allclose(moved, centers):
            break
        centers = moved
    return [np.sort(centers), even]
