"""Recall of the anchors: the objects that no anchor overlaps enough, and anchors that fit the objects better."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from resdet.detection.build import anchor_sizes, build_backbone, build_maps
from resdet.detection.config import DetectorConfig
from resdet.detection.heads.anchors import cell

IOU = 0.5
SAMPLE = 3000  # objects for the search
GOOD = 0.99  # recall at which the search stops adding anchors
LENGTHS = (1, 2, 3)  # sizes per level, with a pyramid
SINGLE_LENGTHS = (3, 4, 5, 6)  # with one level
RATIO_COUNTS = (3, 5)
ROUNDS = 50  # of k-means


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of a detector, without their positions."""

    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]  # per level
    ratios: tuple[float, ...]  # height to width
    rounded: bool  # torchvision's style
    inside_only: bool
    divisor: int  # of the sides of padded images

    @classmethod
    def of(cls, config: DetectorConfig, strides: Sequence[int]) -> "AnchorGrid":
        """`strides`: those of the RPN's levels."""
        rpn, levels = config.rpn, anchor_sizes(config, len(strides))
        return cls(
            tuple(strides), tuple(tuple(sides) for sides in levels), tuple(rpn.anchors.ratios),
            rpn.anchors.style == "torchvision", rpn.inside_only, config.input.divisor,
        )  # fmt: skip

    @property
    def line(self) -> str:
        """Overrides of a config."""
        sizes = ",".join("[" + ",".join(f"{side:.6g}" for side in sides) + "]" for sides in self.sizes)
        ratios = ",".join(f"{ratio:g}" for ratio in self.ratios)
        return f"model.rpn.anchors.sizes=[{sizes}] model.rpn.anchors.ratios=[{ratios}]"

    def best_ious(self, boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
        """float64 [M]: the IoU of each box xyxy [M, 4] with the best anchor in its image of `images` [M, 2] (width,
        height).

        IoU with anchors of one shape falls with the distance of the centers in x and in y, so that the best position
        is the nearest usable one.
        """
        best = np.zeros(len(boxes))
        for stride, sides in zip(self.strides, self.sizes):
            for half in cell(sides, self.ratios, self.rounded).double().numpy()[:, 2:]:
                best = np.maximum(best, self._ious(boxes, images, stride, half))
        return best

    def _ious(self, boxes: np.ndarray, images: np.ndarray, stride: int, half: np.ndarray) -> np.ndarray:
        """IoU of each box with the nearest anchor of a level that extends `half` [2] to both sides; 0 for none."""
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
    """The anchors of a config, whose nets are built without memory for weights."""
    import torch

    with torch.device("meta"):
        net, _ = build_backbone(replace(config, backbone=config.backbone.for_checkpoint()))
        maps = build_maps(config, net)
    return AnchorGrid.of(config, [maps.strides[level] for level in maps.levels])


def better_anchors(grid: AnchorGrid, boxes: np.ndarray, images: np.ndarray) -> tuple[AnchorGrid, float]:
    """Anchors with the best recall on these boxes [M, 4] in images [M, 2] that a small search finds; and the recall.

    Sizes are the centers of k-means, or spread evenly between the extremes, both on a logarithmic scale; so are ratios.
    They are those of all levels, or of the finer half: anchors of a coarse level are far apart. The grid with fewest
    anchors is taken of those with a recall of `GOOD`.
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
    """Share of the boxes with an anchor of an IoU of 0.5."""
    return float((grid.best_ious(boxes, images) >= IOU).mean())


def _candidates(grid: AnchorGrid, boxes: np.ndarray) -> Iterator[AnchorGrid]:
    """By ascending number of anchors."""
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
    """Ascending centers of `values`: by k-means, and spread evenly over all but one percent at both ends."""
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
