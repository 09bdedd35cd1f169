"""Tests the sizes of pictures in reports."""

import numpy as np

from resdet.results import sections


def test_large_images_are_scaled_down_with_their_boxes():
    pixels = np.random.default_rng(0).integers(0, 256, (960, 480, 3), dtype=np.uint8)  # the worst case for JPEG
    mark = sections.Mark((0, 480, 240, 960), "thing")
    outside = [
        sections.Mark(box, "outside") for box in ((480, 0, 500, 9), (0, 960, 9, 970), (-9, 0, 0, 9), (0, -9, 9, 0))
    ]
    shown = sections.picture(pixels, "name", "caption", {"truth": [mark, *outside]})
    assert (shown.width, shown.height) == (240, 480)
    assert [each.box for each in shown.layers["truth"]] == [(0, 240, 120, 480)]
    assert len(shown.jpeg) <= sections.BYTES


def test_small_images_are_enlarged_with_their_boxes():
    shown = sections.picture(
        np.zeros((60, 100, 3), np.uint8), "name", "", {"truth": [sections.Mark((10, 20, 30, 40), "")]}
    )
    assert (shown.width, shown.height) == (400, 240)  # by the largest integer within 480 pixels
    assert [each.box for each in shown.layers["truth"]] == [(40, 80, 120, 160)]
    tiny = sections.picture(np.zeros((3, 4, 3), np.uint8), "name", "")
    assert (tiny.width, tiny.height) == (32, 24)
