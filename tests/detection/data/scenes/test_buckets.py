"""The padded shapes of batches."""

import itertools

import numpy as np
import pytest

from resdet.detection.data.buckets import (
    buckets,
    group_of,
    inference_shape,
    inference_shapes,
    rounded_up,
    training_shape,
)
from resdet.images.resize import new_size

LIMITS = [(800, 1333), (600, 1000), (160, 213), (480, 3000), (384, 384), (33, 50)]
CAMERAS = [(640, 480), (640, 427), (500, 375), (1920, 1080), (640, 640), (480, 640), (427, 640)]


def test_the_usual_limits_give_nine_shapes():
    shapes = buckets(800, 1333)
    assert len(shapes) == 9 and {(800, 800), (800, 1344), (1344, 800)} <= set(shapes)
    assert set(shapes) == {shape[::-1] for shape in shapes}
    proportions = [width / height for height, width in shapes]
    assert proportions == sorted(proportions)


def test_the_shapes_of_long_images():
    """Expects ratios of 1, 7:6, 4:3, 3:2, 16:9, 7:3, 3, 4, 6 and the limit, each rounded up to a multiple of 32."""
    long = [480, 576, 640, 736, 864, 1120, 1440, 1920, 2880, 3008]
    assert buckets(480, 3000) == [(side, 480) for side in reversed(long)] + [(480, side) for side in long[1:]]


def test_a_square_needs_one_shape():
    assert buckets(1024, 1024) == [(1024, 1024)]
    assert buckets(500, 500) == [(512, 512)]


@pytest.mark.parametrize("short, long", LIMITS)
@pytest.mark.parametrize("divisor", [32, 64])
def test_any_two_resized_images_fit_a_shape(short, long, divisor):
    shapes = buckets(short, long, divisor)
    assert all(side % divisor == 0 for shape in shapes for side in shape)
    sizes = [new_size(*size, short, long) for size in [*CAMERAS, (1, 1), (20_000, 10), (10, 20_000)]]
    for (width, height), (w, h) in itertools.product(sizes, sizes):
        shape = training_shape(max(height, h), max(width, w), shapes)
        assert shape[0] >= max(height, h) and shape[1] >= max(width, w) and max(shape) < long + divisor
    alone = {training_shape(height, width, shapes) for width, height in sizes}
    assert alone <= set(shapes)


def test_portrait_and_landscape_images_get_the_smallest_square():
    assert training_shape(600, 500, buckets(480, 3000)) == (640, 640)


@pytest.mark.parametrize(
    "long, sides", [(1333, [800, 1088, 1216, 1344]), (1000, [800, 1024]), (3000, [800, 1088, 1216, 1440])]
)
def test_shapes_of_inference(long, sides):
    """Expects ratios of 1, 4:3, 3:2 and 16:9 or the limit, each rounded up to a multiple of 32."""
    shapes = inference_shapes(800, long)
    assert shapes == [(side, 800) for side in reversed(sides)] + [(800, side) for side in sides[1:]]
    assert inference_shape(800, 1000, shapes, 32) == (800, sides[1])


def test_photographs_get_little_padding():
    shapes = buckets(800, 1333)
    for size in CAMERAS:
        width, height = new_size(*size, 800, 1333)
        shape = training_shape(height, width, shapes)
        assert shape[0] * shape[1] < 1.08 * width * height


def test_groups_are_the_training_shapes():
    shapes = buckets(800, 1333)
    sizes = np.random.default_rng(0).integers(1, 3000, (200, 2))
    for size, group in zip(sizes, group_of(sizes, 800, 1333, shapes)):
        width, height = new_size(*size.tolist(), 800, 1333)
        assert shapes[group] == training_shape(height, width, shapes)


def test_rounding_up():
    assert rounded_up(800, 1067, 32) == (800, 1088) and rounded_up(1, 33, 16) == (16, 48)
