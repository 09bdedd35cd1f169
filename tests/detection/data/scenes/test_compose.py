"""Mosaic and copy-paste: annotations match the images."""

import numpy as np
import pytest

from resdet.detection.data.compose import copy_paste, mosaic
from resdet.detection.data.scene import Scene
from resdet.detection.data.segmentation import Bitmap, Polygons

KINDS = pytest.mark.parametrize("kind", ["polygons", "bitmaps"])


def square(x1: float, y1: float, side: float) -> Polygons:
    return Polygons([np.array([[x1, y1], [x1 + side, y1], [x1 + side, y1 + side], [x1, y1 + side]])])


def scene_of(fakes, segments: list, labels: list[int], width=100, height=100, crowd=None) -> Scene:
    objects = fakes.objects_of(segments, labels, crowd)
    return Scene.of(fakes.painted(objects, width, height), objects, (1, 1))


@KINDS
def test_mosaics_match_their_annotations_and_have_the_first_size(fakes, rng, kind):
    sizes = [(160, 120), (90, 200), (300, 80), (64, 64)]
    for _ in range(10):
        made = mosaic([fakes.scene(rng, *size, kind=kind) for size in sizes], rng)
        assert made.size == (160, 120)
        fakes.assert_truthful(made, iou=0.85, pixels=4)  # cut to whole pixels before the small images are enlarged


def test_a_mosaic_shows_each_image_once_without_gaps(rng):
    """Images of one gray each form four rectangles around a point in the middle half."""
    greys = [50, 100, 150, 200]
    scenes = [
        Scene(
            np.full((60, 80, 3), gray, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, bool), []
        )
        for gray in greys
    ]
    corners = []
    for _ in range(30):
        pixels = mosaic(scenes, rng).pixels[..., 0]
        x, y = (pixels[0] == 50).sum(), (pixels[:, 0] == 50).sum()
        wanted = np.block([[np.full((y, x), 50), np.full((y, 80 - x), 100)], [np.full((60 - y, x), 150), 200]][:1])
        wanted = np.concatenate([wanted, np.repeat([[150] * x + [200] * (80 - x)], 60 - y, 0)])
        np.testing.assert_array_equal(pixels, wanted)
        corners.append((x, y))
    assert np.min(corners, 0).tolist() >= [20, 15] and np.max(corners, 0).tolist() <= [60, 45]
    assert len(set(corners)) > 20


@pytest.mark.parametrize("size", [(200, 50), (50, 200)])
def test_the_images_of_a_mosaic_are_cropped_at_the_outer_sides(rng, size):
    """Colors encode the position, so that the inner corners of four images meet at the center."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    none = np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, bool), []
    scenes = [Scene(np.stack([x, y, np.full_like(x, n)], 2).astype(np.uint8), *none) for n in range(4)]
    for _ in range(10):
        pixels = mosaic(scenes, rng).pixels.astype(int)
        x, y = (pixels[0, :, 2] == 0).sum(), (pixels[:, 0, 2] == 0).sum()
        inner = pixels[y - 1 : y + 1, x - 1 : x + 1].reshape(4, 3)
        wanted = [[width - 1, height - 1, 0], [0, height - 1, 1], [width - 1, 0, 2], [0, 0, 3]]
        np.testing.assert_allclose(inner, wanted, atol=4)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (20_000, 10)])
def test_mosaics_of_the_smallest_and_the_longest_images(fakes, rng, size):
    made = mosaic([fakes.scene(rng, *size, labels=()), *(fakes.scene(rng) for _ in range(3))], rng)
    assert made.size == size
    other = mosaic([fakes.scene(rng), *(fakes.scene(rng, *size, labels=()) for _ in range(3))], rng)
    assert other.size == (160, 120)


@KINDS
def test_pasted_and_covered_objects_match_the_image(fakes, rng, kind):
    pasted = 0
    for _ in range(20):
        scene = fakes.scene(rng, labels=(0, 1), kind=kind)
        made = copy_paste(scene, fakes.scene(rng, 140, 150, labels=(2, 2, 2), kind=kind), rng)
        assert made.size == (160, 120)
        fakes.assert_truthful(made, iou=0.9, small=300)  # a tenth of the largest object
        pasted += (made.labels == 2).sum()
    assert 15 < pasted < 45  # each of sixty has a probability of 1/2


def test_covered_parts_are_cut_off_and_hidden_objects_dropped(fakes, rng):
    below = [square(10, 10, 20), square(50, 50, 20), square(0, 80, 10)]
    scene = scene_of(fakes, below, [0, 1, 0])
    cover = Polygons([np.array([[0, 0], [60, 0], [60, 100], [30, 100], [30, 75], [0, 75.0]])])
    other = scene_of(fakes, [cover], [2])
    before = scene.pixels.copy()
    made = copy_paste(scene, other, SureThing())
    np.testing.assert_array_equal(scene.pixels, before)
    assert made.labels.tolist() == [1, 0, 2]
    np.testing.assert_allclose(made.boxes, [[60, 50, 70, 70], [0, 80, 10, 90], [0, 0, 60, 100]])
    assert isinstance(made.segments[0], Bitmap) and made.segments[0].bitmap(100, 100).sum() == 200
    assert made.segments[1] is scene.segments[2]  # an uncovered object keeps its polygons
    fakes.assert_truthful(made, iou=0.99)


@pytest.mark.parametrize("columns, kept", [(2, []), (3, [0])])
def test_a_tenth_of_an_object_is_too_little(fakes, columns, kept):
    """Covers an object of 20 columns, except for the last 2 or 3."""
    cover = Polygons([np.array([[0, 0], [70 - columns, 0], [70 - columns, 100], [0, 100.0]])])
    made = copy_paste(scene_of(fakes, [square(50, 50, 20)], [0]), scene_of(fakes, [cover], [2]), SureThing())
    assert made.labels.tolist() == [*kept, 2]


class SureThing:
    """Chooses every object, and no shift."""

    def random(self, count):
        return np.zeros(count)

    def integers(self, low, high, endpoint):
        return 0


@pytest.mark.parametrize("limit, corner", [(min, (0, 0)), (max, (60, 70))])
def test_a_smaller_image_is_pasted_anywhere_inside(fakes, limit, corner):
    rng = SureThing()
    rng.integers = lambda low, high, endpoint: limit(low, high)
    other = scene_of(fakes, [square(0, 0, 30)], [1], 40, 30)
    made = copy_paste(scene_of(fakes, [], []), other, rng)
    np.testing.assert_allclose(made.boxes, [[*corner, corner[0] + 30, corner[1] + 30]])
    fakes.assert_truthful(made)


@pytest.mark.parametrize("limit, corner", [(min, (60, 65)), (max, (80, 75))])
def test_any_part_of_a_larger_image_is_pasted(fakes, limit, corner):
    rng = SureThing()
    rng.integers = lambda low, high, endpoint: limit(low, high)
    other = scene_of(fakes, [square(80, 75, 20)], [1], 120, 110)
    made = copy_paste(scene_of(fakes, [], []), other, rng)
    np.testing.assert_allclose(made.boxes, [[*corner, corner[0] + 20, corner[1] + 20]])


def test_crowds_and_objects_without_a_segment_are_not_pasted(fakes):
    cover = Polygons([np.array([[0, 0], [50, 0], [50, 60], [0, 60.0]])])
    other = scene_of(fakes, [cover, square(50, 50, 50), square(0, 50, 20)], [2, 2, 2], crowd=[0, 1, 0])
    other.segments[2] = None
    scene = scene_of(fakes, [square(10, 10, 20), square(40, 40, 20)], [0, 1], crowd=[1, 0])
    scene.segments = [None, None]
    made = copy_paste(scene, other, SureThing())
    assert made.labels.tolist() == [1, 2] and made.crowd.tolist() == [False, False]
    np.testing.assert_allclose(made.boxes[0], [40, 40, 60, 60])  # a box without a mask is not cut


@pytest.mark.parametrize("empty", ["scene", "other"])
def test_images_without_objects(fakes, rng, empty):
    scene = fakes.scene(rng, labels=() if empty == "scene" else (0,))
    made = copy_paste(scene, fakes.scene(rng, labels=() if empty == "other" else (1,)), SureThing())
    assert made.labels.tolist() == ([1] if empty == "scene" else [0])
    fakes.assert_truthful(made)
