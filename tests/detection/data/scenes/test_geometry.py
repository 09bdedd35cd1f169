"""Boxes and segments under geometric transforms, compared with images that show where the objects are."""

import cv2
import numpy as np
import pytest

from resdet.detection.data.annotations import Objects
from resdet.detection.data.geometry import (
    flip,
    jitter,
    random_crop,
    read_scene,
    resize,
    resize_short,
    shrink_to_fit,
    vertical_flip,
    window,
)
from resdet.detection.data.scene import Scene
from resdet.detection.data.segmentation import Polygons
from resdet.errors import DataError
from resdet.images.decode import EncodedImage

KINDS = pytest.mark.parametrize("kind", ["polygons", "bitmaps"])


@KINDS
def test_annotations_match_the_image_and_shifted_ones_do_not(fakes, rng, kind):
    scene = fakes.scene(rng, kind=kind)
    fakes.assert_truthful(scene)
    for scale, shift in [((1, 1), (6, 0)), ((1, -1), (0, 120))]:
        with pytest.raises(AssertionError):
            fakes.assert_truthful(scene.moved(scene.pixels, scale, shift))


@KINDS
@pytest.mark.parametrize("kind_of_flip, axis", [(flip, 1), (vertical_flip, 0)])
def test_flips(fakes, rng, kind, kind_of_flip, axis):
    scene = fakes.scene(rng, kind=kind)
    flipped = kind_of_flip(scene)
    np.testing.assert_array_equal(flipped.pixels, np.flip(scene.pixels, axis))
    fakes.assert_truthful(flipped)
    again = kind_of_flip(flipped)
    np.testing.assert_allclose(again.boxes, scene.boxes, atol=1e-4)
    np.testing.assert_array_equal(again.segments[0].bitmap(120, 160), scene.segments[0].bitmap(120, 160))


@KINDS
@pytest.mark.parametrize("size", [(320, 240), (97, 201), (53, 40)])
def test_resize(fakes, rng, kind, size):
    scene = fakes.scene(rng, kind=kind)
    resized = resize(scene, *size)
    assert resized.size == size
    factors = np.tile(np.array(size) / scene.size, 2)
    np.testing.assert_allclose(resized.boxes, scene.boxes * factors, rtol=1e-5)
    fakes.assert_truthful(resized, iou=0.9, pixels=1.6 * max(1, factors.max()))


@pytest.mark.parametrize(
    "size, wanted", [((160, 120), (133, 100)), ((120, 160), (100, 133)), ((200, 50), (150, 38)), ((1, 1), (100, 100))]
)
def test_resize_short_limits_the_long_side(fakes, rng, size, wanted):
    assert resize_short(fakes.scene(rng, *size, labels=()), 100, 150).size == wanted


def test_shrinking_keeps_images_that_fit(fakes, rng):
    scene = fakes.scene(rng)
    assert shrink_to_fit(scene, 120, 160) is scene
    assert shrink_to_fit(scene, 130, 170) is scene
    assert shrink_to_fit(scene, 110, 160).size == (147, 110)
    assert shrink_to_fit(scene, 120, 140).size == (140, 105)


@KINDS
@pytest.mark.parametrize("box", [(40, 30, 60, 50), (0, 0, 160, 120), (-20, -10, 120, 150), (79, 59, 2, 2)])
def test_a_window_cuts_boxes_to_the_visible_part(fakes, rng, kind, box):
    for _ in range(5):
        cut = window(fakes.scene(rng, kind=kind), *box)
        assert cut.size == box[2:]
        fakes.assert_truthful(cut, iou=0.9)


@pytest.mark.parametrize("corner", [(-40, 0), (-50, 10), (160, 0), (170, 10), (0, -40), (10, -50), (0, 120), (10, 130)])
def test_a_window_beside_the_image_is_black(fakes, rng, corner):
    cut = window(fakes.scene(rng), *corner, 40, 40)
    assert cut.size == (40, 40) and not cut.pixels.any() and len(cut) == 0


def test_objects_outside_the_window_are_dropped(fakes, rng):
    squares = [Polygons([np.array([[x, 10], [x + 20, 10], [x + 20, 30], [x, 30.0]])]) for x in (0, 50, 100)]
    objects = fakes.objects_of(squares, [0, 1, 2], [False, True, False])
    scene = Scene.of(fakes.painted(objects, 160, 40), objects, (1, 1))
    cut = window(scene, 60, 0, 60, 40)
    assert cut.labels.tolist() == [1, 2] and cut.crowd.tolist() == [True, False]
    np.testing.assert_allclose(cut.boxes, [[0, 10, 10, 30], [40, 10, 60, 30]])
    assert len(window(scene, 20, 0, 30, 40)) == 0


def test_the_box_of_a_cut_object_shrinks_to_its_mask(fakes):
    """The object is a diagonal bar: clipping its box alone would keep the whole height."""
    bar = Polygons([np.array([[0, 0], [10, 0], [100, 90], [100, 100], [90, 100], [0, 10.0]])])
    objects = fakes.objects_of([bar], [0])
    cut = window(Scene.of(fakes.painted(objects, 100, 100), objects, (1, 1)), 0, 0, 50, 100)
    np.testing.assert_allclose(cut.boxes, [[0, 0, 50, 60]], atol=1)


def test_without_segments_boxes_are_clipped(fakes, rng):
    scene = fakes.scene(rng)
    scene.segments = [None] * 3
    cut = window(scene, 60, 40, 50, 50)
    wanted = np.clip(scene.boxes - [60, 40, 60, 40], 0, 50)
    wanted = wanted[(wanted[:, 2] > wanted[:, 0]) & (wanted[:, 3] > wanted[:, 1])]
    np.testing.assert_allclose(cut.boxes, wanted)
    assert cut.segments == [None] * len(wanted)


@KINDS
def test_random_crops_keep_the_center_of_an_object(fakes, rng, kind):
    sides = []
    for _ in range(40):
        pixels, objects = fakes.make(rng, labels=(0,), kind=kind)
        center = objects.boxes.reshape(2, 2).mean(0)
        pixels[int(center[1]), int(center[0]), 1] = 255  # channel 1 has no object
        cut = random_crop(Scene.of(pixels, objects, (1, 1)), rng, (0.3, 0.6))
        assert (cut.pixels[..., 1] == 255).sum() == 1
        sides.append(np.array(cut.size) / (160, 120))
        cut.pixels[..., 1] = 0
        fakes.assert_truthful(cut, iou=0.9)
    assert 0.29 < np.min(sides) < 0.36 and 0.54 < np.max(sides) < 0.61


def test_a_crowd_does_not_take_the_place_of_the_object_in_a_crop(rng):
    boxes = np.array([[2, 2, 10, 10], [60, 60, 100, 100]], np.float32)
    crowd = np.array([False, True])
    scene = Scene(np.zeros((100, 100, 3), np.uint8), boxes, np.zeros(2, np.int64), crowd, [None, None])
    assert not any(random_crop(scene, rng, (0.3, 0.5)).crowd.all() for _ in range(30))


def test_random_crops_reach_every_corner(fakes, rng):
    empty = fakes.scene(rng, labels=())
    empty.pixels[..., 0], empty.pixels[..., 1] = np.arange(160), np.arange(120)[:, None]
    corners = np.array([random_crop(empty, rng, (0.5, 0.5)).pixels[0, 0, :2] for _ in range(2000)])
    assert corners.min(0).tolist() == [0, 0] and corners.max(0).tolist() == [80, 60]


@KINDS
@pytest.mark.parametrize("factor", [0.2, 0.8, 1.0, 1.5, 3.0])
def test_jitter(fakes, rng, kind, factor):
    """The kept part has the factor's scale and fits the square."""
    scene = fakes.scene(rng, kind=kind, labels=())
    wanted = [min(200, round(side * factor * 200 / 160)) for side in scene.size]
    np.testing.assert_allclose(jitter(scene, rng, factor, 200).size, wanted, atol=1)
    exactness = 1.6 * max(1, factor * 200 / 160)  # boxes are cut to whole pixels before the image is enlarged
    for _ in range(5):
        fakes.assert_truthful(jitter(fakes.scene(rng, kind=kind), rng, factor, 200), iou=0.85, pixels=exactness)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000)])
def test_the_smallest_and_the_longest_images(fakes, rng, size):
    objects = fakes.objects_of([], [])
    scene = Scene.of(np.zeros((size[1], size[0], 3), np.uint8), objects, (1, 1))
    for made in (
        flip(scene),
        resize_short(scene, 800, 1333),
        random_crop(scene, rng, (0.5, 1)),
        jitter(scene, rng, 0.1, 1024),
        jitter(scene, rng, 2.0, 1024),
    ):
        assert min(made.size) >= 1
        assert made.size == size or max(made.size) <= max(size[0], size[1], 1333)
    assert max(resize_short(scene, 800, 1333).size) <= 1333
    assert max(jitter(scene, rng, 2.0, 1024).size) <= 1024


def test_large_jpegs_are_decoded_at_reduced_size_with_objects(fakes, rng):
    pixels, objects = fakes.make(rng, 801, 601)
    file = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
    source = fakes.Source([(pixels, objects)])
    source.image = lambda i: EncodedImage(file, "a.jpg")
    loaded = read_scene(source, 0, 150, 400)
    assert loaded.size == (201, 151)
    fakes.assert_truthful(loaded)
    assert read_scene(source, 0, 400, 800).size == (801, 601)


def test_an_image_of_another_size_than_annotated_is_an_error(fakes, rng):
    source = fakes.Source([fakes.make(rng)])
    source.sizes[0] = (120, 160)
    with pytest.raises(DataError, match=r"0\.png has 160x120 pixels and its annotations declare 120x160"):
        read_scene(source, 0, 100, 200)


def test_objects_annotated_at_another_size_are_scaled(fakes, rng):
    """The source sets `other_sizes`; annotations have 3/4 of the image's width and half of its height."""
    pixels, objects = fakes.make(rng)
    source = fakes.Source([(pixels, objects)])
    small = Scene.of(pixels, objects, (0.75, 0.5))
    source.sizes[0], source.other_sizes = (120, 60), True
    source.all_objects[0] = Objects(small.boxes, small.labels, small.crowd, small.segments)
    loaded = read_scene(source, 0, 100, 200)
    assert loaded.size == (160, 120)
    fakes.assert_truthful(loaded)
