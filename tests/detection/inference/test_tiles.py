"""Tiled detection of painted rectangles: each object is found once, as in the tile that contains all of it."""

import tracemalloc

import numpy as np
import pytest

from resdet.detection.inference.choice import choose
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.tiles import Tile, TiledDetector, cut_by_seam, spans, survivors, tiles_of
from resdet.errors import ConfigError
from resdet.results.result import Result

TILE, OVERLAP = 100, 0.3
HEIGHT, WIDTH = 260, 330


class RectangleFinder:
    """Finds the visible parts of painted rectangles, small ones with higher scores; none in images above `largest`."""

    draws_masks = draws_keypoints = True
    classes, category_ids = ["rectangle"], [1]

    def __init__(self, largest: int = TILE):
        self.largest = largest

    def stream(self, images, score=None):
        for image in images:
            seen = max(image.shape[:2]) <= self.largest
            yield rectangles_in(np.asarray(image) if seen else np.zeros_like(image))


def rectangles_in(image: np.ndarray) -> Result:
    """The first channel holds the numbers of the rectangles, the second their classes."""
    numbers = [number for number in np.unique(image[..., 0]) if number]
    masks = np.array([image[..., 0] == number for number in numbers]).reshape(-1, *image.shape[:2])
    places = [np.nonzero(mask) for mask in masks]
    boxes = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in places], np.float32).reshape(-1, 4)
    labels = np.array([image[y[0], x[0], 1] for y, x in places], np.int64)
    scores = np.array([1 - mask.sum() / 1e6 for mask in masks], np.float32)
    names = [f"class {label}" for label in labels]
    corners = np.concatenate([boxes.reshape(-1, 2, 2), np.ones((len(boxes), 2, 1), np.float32)], 2)
    keypoints = {"keypoints": corners, "keypoint_names": ["start", "end"], "skeleton": [(0, 1)]}
    return Result(boxes, scores, labels, names, labels + 1, image.shape[:2], masks, **keypoints)


def painted(*boxes: tuple[int, int, int, int], labels: list[int] | None = None) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes):
        image[top:bottom, left:right] = number + 1, labels[number] if labels else 0, 0
    return image


@pytest.mark.parametrize(("tile", "overlap", "key"), [(0, 0.2, "tile"), (100, 1.0, "overlap"), (100, -0.1, "overlap")])
def test_impossible_tiles_are_refused(tile, overlap, key):
    with pytest.raises(ConfigError, match=f"^{key} is "):
        TiledDetector(RectangleFinder(), tile, overlap)


def check(found: Result, image: np.ndarray) -> None:
    """Checks that classes, boxes, masks and keypoints equal those of the whole image."""
    expected = rectangles_in(image)
    order, other = (np.lexsort(result.boxes.T) for result in (found, expected))
    assert np.array_equal(found.boxes[order], expected.boxes[other])
    assert np.array_equal(found.labels[order], expected.labels[other]) and found.names[0].startswith("class")
    assert np.array_equal(found.masks[order], expected.masks[other])
    assert np.array_equal(found.keypoints[order], expected.keypoints[other])
    assert found.keypoint_names == ["start", "end"] and found.skeleton == [(0, 1)]
    assert (np.diff(found.scores) <= 0).all() and found.size == (HEIGHT, WIDTH)


def test_tiles_cover_the_image_and_overlap():
    for side in (1, 99, 100, 101, 129, 130, 131, 1000):
        parts = spans(side, 100, 0.3)
        assert parts[0][0] == 0 and parts[-1][1] == side
        assert all(stop - start == min(side, 100) for start, stop in parts)
        shared = [stop - start for (_, stop), (start, _) in zip(parts, parts[1:])]
        assert all(pixels >= 30 for pixels in shared)
        assert len(parts) == (1 if side <= 100 else 1 + -(-(side - 100) // 70))
    starts = [start for start, _ in spans(500, 33, 0.25)]
    assert max(np.diff(starts)) <= 0.75 * 33
    assert tiles_of(80, 100, 100, 0.2) == [(0, 0, 100, 80)]
    assert len(tiles_of(100, 180, 100, 0.2)) == 3


@pytest.mark.parametrize("seed", range(4))
def test_objects_on_seams_are_found_once_and_whole(seed):
    """Objects are no larger than the overlap and lie anywhere; the detector finds none in the whole image."""
    rng = np.random.default_rng(seed)
    boxes = []
    for top in range(0, HEIGHT - 30, 31):
        for left in range(0, WIDTH - 30, 31):
            width, height = rng.integers(5, 27, 2)
            x, y = left + rng.integers(0, 29 - width), top + rng.integers(0, 29 - height)
            boxes.append((x, y, x + width, y + height))
    image = painted(*boxes, labels=rng.integers(0, 3, len(boxes)).tolist())
    finder = RectangleFinder()
    seen = [*finder.stream([image[t.top : t.bottom, t.left : t.right] for t in tiles_of(HEIGHT, WIDTH, TILE, OVERLAP)])]
    assert sum(map(len, seen)) > 1.3 * len(boxes)  # several tiles see an object, cut or whole
    check(TiledDetector(finder, TILE, OVERLAP).predict(image), image)


def test_objects_larger_than_a_tile_come_from_the_whole_image():
    """Drops the parts that tiles find, but not an object of another class inside a part."""
    image = painted((20, 20, 300, 250), (120, 90, 140, 115), labels=[0, 1])
    check(TiledDetector(RectangleFinder(largest=WIDTH), TILE, OVERLAP).predict(image), image)


def test_adjacent_objects_of_one_class_are_not_merged():
    start = spans(WIDTH, TILE, OVERLAP)[1][0]
    image = painted((start - 20, 10, start, 40), (start, 10, start + 20, 40))
    found = TiledDetector(RectangleFinder(), TILE, OVERLAP).predict(image)
    assert len(found) == 2
    check(found, image)


def test_an_object_around_one_of_another_class_is_kept():
    image = painted((100, 80, 125, 105), (101, 81, 124, 104), labels=[0, 1])
    check(TiledDetector(RectangleFinder(), TILE, OVERLAP).predict(image), image)


def test_an_image_no_larger_than_a_tile_is_not_tiled():
    image = painted((20, 20, 60, 50), (65, 20, 85, 90))[:TILE, :TILE]
    (expected,) = RectangleFinder().stream([image])
    found = TiledDetector(RectangleFinder(), TILE, OVERLAP).predict(image)
    assert np.array_equal(found.boxes, expected.boxes[np.argsort(-expected.scores, kind="stable")])
    assert found.image is image


def test_settings_enable_tiles():
    finder = RectangleFinder()
    finder.nms = 0.4
    assert choose([finder], TTAConfig()) is finder
    tiled = choose([finder], TTAConfig(tile=64, overlap=0.1))
    assert (tiled.detector, tiled.tile, tiled.overlap, tiled.nms) == (finder, 64, 0.1, 0.4)
    for settings in ({"tile": 8}, {"overlap": 1.0}):
        with pytest.raises(ConfigError, match="eval."):
            TTAConfig(**settings)


def test_borders_of_the_image_are_not_seams():
    """Checks boxes at each side of a tile in the middle and of the tiles in two corners of the image."""
    sides = np.array([[0, 40, 20, 60], [40, 0, 60, 20], [80, 40, 100, 60], [40, 80, 60, 100], [40, 40, 60, 60]], float)
    cuts = lambda left, top: cut_by_seam(sides, Tile(left, top, left + 100, top + 100), (HEIGHT, WIDTH)).tolist()
    assert cuts(70, 80) == [True, True, True, True, False]
    assert cuts(0, 0) == [False, False, True, True, False]
    assert cuts(WIDTH - 100, HEIGHT - 100) == [True, True, False, False, False]


def test_merging_needs_little_memory():
    """Merges 1,000 boxes, all but every third equal to the one before; a number for each pair would take 4 MB."""
    corners = np.arange(1000, dtype=np.float32)[:, None] // 3 * 10
    boxes = np.concatenate([corners, corners, corners + 8, corners + 8], 1)
    tracemalloc.start()
    try:
        kept = survivors(boxes, np.zeros(1000, bool), 0.5)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert np.array_equal(np.flatnonzero(kept), np.arange(0, 1000, 3))


def test_boxes_near_a_seam_are_cut():
    boxes = np.array([[1.5, 40, 20, 60], [3, 40, 20, 60], [40, 40, 60, 98.5], [40, 40, 60, 97]])
    assert cut_by_seam(boxes, Tile(70, 80, 170, 180), (HEIGHT, WIDTH)).tolist() == [True, False, True, False]


@pytest.mark.parametrize("cut", [False, True])
def test_cut_boxes_that_are_more_than_half_covered_are_parts(cut):
    """The smaller boxes share 45 and 55 of their 100 pixels with the first one."""
    boxes = np.array([[0, 0, 100, 10], [95.5, 0, 105.5, 10], [-4.5, 0, 5.5, 10]], np.float32)
    assert survivors(boxes, np.array([False, cut, cut]), 0.5).tolist() == [True, True, not cut]


@pytest.mark.parametrize("cut", [False, True])
def test_a_low_threshold_applies_to_cut_boxes(cut):
    """An IoU of 0.32 is an intersection of less than half of either box: only the threshold makes them one object."""
    boxes = np.array([[0, 0, 100, 10], [51.5, 0, 151.5, 10]], np.float32)
    found = [survivors(boxes, np.array([cut, cut]), nms).tolist() for nms in (0.3, 0.4)]
    assert found == [[True, False], [True, True]]
