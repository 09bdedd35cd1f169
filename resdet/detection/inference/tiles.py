"""Sliced inference: detects objects in the whole image and in overlapping tiles, and merges the detections.

Several tiles detect an object across a seam. Merging proceeds per class, by descending score. Two detections are the
same object if their IoU exceeds the threshold of the final NMS or, if a seam cuts one of them, their intersection
exceeds half of the smaller box. Cut detections rank below whole ones, so that an object gets the box of a tile that
contains it. The model's maximum number of detections applies per tile, so a large image may have more.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from resdet.detection.inference.config import check_tiles
from resdet.detection.inference.predictor import BranchPredictor
from resdet.images.decode import as_image
from resdet.model import Prepared
from resdet.ops.rle import RLE, decode, encode
from resdet.results.image_by_image import ImageByImage
from resdet.results.result import Result

NEAR = 2.0  # pixels between a seam and the side of a box that it cuts
COVERED = 0.5  # share of the smaller of two boxes, one cut by a seam, above which they are the same object


class Tile(NamedTuple):
    """A window of an image, in pixels of the image."""

    left: int
    top: int
    right: int
    bottom: int


class TiledDetector(ImageByImage):
    """Applies a detector, an ensemble or an exported file also to tiles of an image."""

    def __init__(self, detector: BranchPredictor, tile: int, overlap: float = 0.2, nms: float = 0.5):
        """Square tiles of `tile` pixels share at least `overlap` of their sides; `nms`: IoU threshold of NMS."""
        check_tiles(tile, overlap)
        self.detector, self.tile, self.overlap, self.nms = detector, tile, overlap, nms
        self.classes, self.category_ids = detector.classes, detector.category_ids
        self.draws_masks, self.draws_keypoints = detector.draws_masks, detector.draws_keypoints

    def prepare_image(self, image: Any) -> Prepared:
        pixels = as_image(image).decode()
        height, width = pixels.shape[:2]
        return Prepared(None, pixels, (height, width))

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Result]:
        """Detects objects in prepared images, one by one; `top` has no effect."""
        return [self.result(prepared.content, score) for prepared in images]

    def result(self, pixels: np.ndarray, score: float | None) -> Result:
        height, width = pixels.shape[:2]
        tiles = tiles_of(height, width, self.tile, self.overlap)
        views = [pixels[tile.top : tile.bottom, tile.left : tile.right] for tile in tiles]
        return merge([*self.detector.stream(views, score)], tiles, (height, width), self.nms)


def tiles_of(height: int, width: int, tile: int, overlap: float) -> list[Tile]:
    """Returns the whole image and, if larger than a tile, as few evenly spaced tiles as cover it."""
    whole = Tile(0, 0, width, height)
    rows, columns = (spans(side, tile, overlap) for side in (height, width))
    parts = [Tile(left, top, right, bottom) for top, bottom in rows for left, right in columns]
    return [whole, *(part for part in parts if part != whole)]


def spans(side: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    """Returns starts and ends along one side; neighbors share at least `overlap` of a tile."""
    if side <= tile:
        return [(0, side)]
    count = 1 + int(np.ceil((side - tile) / max(1, tile - np.ceil(tile * overlap))))
    starts = np.linspace(0, side - tile, count).round().astype(int).tolist()
    return [(start, start + tile) for start in starts]


def merge(results: Sequence[Result], tiles: Sequence[Tile], size: tuple[int, int], nms: float) -> Result:
    """Merges the detections of all tiles of an image of `size` (height, width), in pixels of the image."""
    offsets = [np.array([tile.left, tile.top] * 2, np.float32) for tile in tiles]
    boxes = np.concatenate([result.boxes + offset for result, offset in zip(results, offsets)])
    cut = np.concatenate([cut_by_seam(result.boxes, tile, size) for result, tile in zip(results, tiles)])
    scores, labels, ids = (
        np.concatenate([getattr(result, name) for result in results]) for name in ("scores", "labels", "category_ids")
    )
    kept = suppress(boxes, scores, labels, cut, nms)
    tile_of = np.repeat(np.arange(len(tiles)), [len(result) for result in results])
    place = np.concatenate([np.arange(len(result)) for result in results])
    sources = [(results[n], tiles[n], i) for n, i in zip(tile_of[kept], place[kept].tolist())]
    rles = [placed(result.rles[i], tile, size) for result, tile, i in sources if result.rles is not None]
    points = [shifted(result.keypoints[i], tile) for result, tile, i in sources if result.keypoints is not None]
    first = results[0]
    shape = () if first.keypoints is None else (len(kept), *first.keypoints.shape[1:])
    return Result(
        boxes=boxes[kept],
        scores=scores[kept],
        labels=labels[kept],
        names=[result.names[i] for result, _, i in sources],
        category_ids=ids[kept],
        size=size,
        rles=None if first.rles is None else rles,
        keypoints=np.array(points, np.float32).reshape(shape) if shape else None,
        keypoint_names=first.keypoint_names,
        skeleton=first.skeleton,
    )


def cut_by_seam(boxes: np.ndarray, tile: Tile, size: tuple[int, int]) -> np.ndarray:
    """Returns bool [n]: whether boxes [n, 4], in pixels of a tile, end at a side of the tile inside the image."""
    height, width = size
    left, top, right, bottom = boxes.T
    return (
        ((left < NEAR) & (tile.left > 0))
        | ((top < NEAR) & (tile.top > 0))
        | ((right > tile.right - tile.left - NEAR) & (tile.right < width))
        | ((bottom > tile.bottom - tile.top - NEAR) & (tile.bottom < height))
    )


def suppress(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, cut: np.ndarray, nms: float) -> np.ndarray:
    """Returns the indices of the kept detections, by descending score."""
    order = np.lexsort((-scores, cut))  # whole detections first
    kept = [of_class[survivors(boxes[of_class], cut[of_class], nms)] for of_class in groups(order, labels)]
    chosen = np.concatenate([order[:0], *kept])
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def groups(order: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Splits the indices `order` by class."""
    return [order[labels[order] == label] for label in np.unique(labels)]


def survivors(boxes: np.ndarray, cut: np.ndarray, nms: float) -> np.ndarray:
    """Returns bool [n]: which boxes [n, 4] of a class, in order of precedence, are not the object of an earlier box.

    Compares one box at a time with the later ones, since a large image may have a hundred thousand boxes.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if kept[i]:
            later = slice(i + 1, None)
            corners = np.minimum(boxes[i, 2:], boxes[later, 2:]) - np.maximum(boxes[i, :2], boxes[later, :2])
            shared = corners.clip(min=0).prod(1)
            covered = shared > COVERED * np.minimum(areas[i], areas[later])
            alike = shared > nms * (areas[i] + areas[later] - shared)
            kept[later] &= ~(alike | covered & (cut[i] | cut[later]))
    return kept


def shifted(keypoints: np.ndarray, tile: Tile) -> np.ndarray:
    """Shifts keypoints [K, 3] of a tile to the image."""
    return keypoints + np.array([tile.left, tile.top, 0], keypoints.dtype)


def placed(rle: RLE, tile: Tile, size: tuple[int, int]) -> RLE:
    """Places the mask of a tile in the image."""
    return encode(torch.from_numpy(decode(rle))[None], size, tile.left, tile.top)[0]
