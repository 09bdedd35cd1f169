"""Tests the placement of captions: inside the image, without overlap, and beside the objects."""

import numpy as np
import pytest

from resdet.results.captions import HIDDEN, place

HEIGHT, WIDTH = 480, 640


def rectangles(corners, sizes):
    return [(*corner, corner[0] + w, corner[1] + h) for corner, (w, h) in zip(corners, sizes.tolist()) if corner]


def common(a, b) -> float:
    """Returns the intersection area of two boxes."""
    across, down = (min(a[2 + k], b[2 + k]) - max(a[k], b[k]) for k in (0, 1))
    return max(across, 0) * max(down, 0)


@pytest.mark.parametrize("seed", range(20))
def test_captions_in_random_scenes(seed):
    """Checks that captions lie in the image, do not overlap, and hide little of other objects."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    low = rng.uniform(-20, (WIDTH, HEIGHT), (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 200, (count, 2))], 1)
    sizes = rng.integers((30, 10), (120, 25), (count, 2))
    corners = place(boxes, sizes, HEIGHT, WIDTH)
    placed = rectangles(corners, sizes)
    assert len(corners) == count and placed
    for k, (left, top, right, bottom) in enumerate(placed):
        assert 0 <= left and right <= WIDTH and 0 <= top and bottom <= HEIGHT
        assert all(common(placed[k], other) == 0 for other in placed[:k])
    seen = boxes.clip(0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    for i, (corner, (w, h)) in enumerate(zip(corners, sizes.tolist())):
        for j, box in enumerate(seen.tolist()):
            area = (box[2] - box[0]) * (box[3] - box[1])
            if corner and i != j and area > 1:
                assert common((*corner, corner[0] + w, corner[1] + h), box) <= HIDDEN * area + 1


@pytest.mark.parametrize(
    "box, height, corner",
    [
        ((100, 100, 200, 200), HEIGHT, (100, 80)),  # above
        ((100, 5, 160, 60), HEIGHT, (100, 60)),  # below, since above is outside
        ((100, 0, 160, 30), 30, (160, 0)),  # beside an object of the full height
        ((0, 0, 640, 480), HEIGHT, (0, 0)),  # inside
        ((100, 5, 400, 400), HEIGHT, (100, 0)),  # partly above the object, shifted into the image
    ],
)
def test_the_position_of_one_caption(box, height, corner):
    assert place(np.array([box]), np.array([[60, 20]]), height, WIDTH) == [corner]


def test_captions_avoid_other_objects():
    boxes = np.array([[100, 100, 200, 200], [90, 60, 210, 98]])
    assert place(boxes, np.array([[60, 20]]), HEIGHT, WIDTH) == [(100, 200)]


def test_the_first_detection_gets_the_preferred_position():
    boxes = np.array([[100, 100, 200, 200]] * 2)
    first, second = place(boxes, np.array([[60, 20]] * 2), HEIGHT, WIDTH)
    assert first == (100, 80) and second == (100, 200)


def test_captions_without_a_position_are_omitted():
    """Places captions of 60 x 20 on a grid of 16 objects of 10 x 10, where each position hides whole objects."""
    grid = np.array([[x, y, x + 10, y + 10] for y in range(0, 40, 10) for x in range(0, 40, 10)])
    assert place(grid, np.array([[60, 20]] * 16), 40, 40).count(None) == 16
    assert place(grid, np.array([[8, 6]] * 16), 40, 40).count(None) < 16


def test_without_captions():
    assert place(np.zeros((3, 4)), np.zeros((0, 2), int), HEIGHT, WIDTH) == []
    assert place(np.zeros((0, 4)), np.zeros((0, 2), int), HEIGHT, WIDTH) == []
