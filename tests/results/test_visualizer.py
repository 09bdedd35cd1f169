"""Tests drawings of detections pixel by pixel."""

import numpy as np
import pytest

from resdet.results.result import Result
from resdet.results.visualizer import apart, color, draw, enlargement, fitted, line_width, sheet


def picture(height=120, width=160):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def changed(drawn, before):
    return (drawn != before).any(2)


def test_a_box_is_drawn_as_a_frame_inside_its_edges():
    before = np.full((120, 160, 3), 200, np.uint8)
    drawn = draw(before, np.array([[20.2, 30.7, 60.0, 90.0]]), [3])
    expected = np.zeros((120, 160), bool)
    expected[30:90, 20:60] = True
    expected[31:89, 21:59] = False  # a line of one pixel
    np.testing.assert_array_equal(changed(drawn, before), expected)
    assert (drawn[expected] == color(3)).all()
    assert (before == 200).all()


def test_a_box_of_the_whole_image_has_the_border_of_the_image_as_frame():
    before = np.full((120, 160, 3), 200, np.uint8)
    expected = np.ones((120, 160), bool)
    expected[1:-1, 1:-1] = False
    drawn = draw(before, np.array([[-5.0, 0, 170, 120]]), [3])
    np.testing.assert_array_equal(changed(drawn, before), expected)


def test_drawing_without_detections_returns_a_copy():
    before = picture()
    drawn = draw(before, np.zeros((0, 4)), [], [], np.zeros((0, 120, 160), bool))
    assert np.array_equal(drawn, before) and not np.shares_memory(drawn, before)


def test_a_mask_tints_only_its_pixels():
    before = picture()
    mask = np.zeros((120, 160), bool)
    mask[40:80, 50:100] = True
    drawn = draw(before, np.array([[50, 40, 100, 80]]), [0], masks=mask[None])
    assert not changed(drawn, before)[:39].any() and not changed(drawn, before)[:, 102:].any()
    inside = drawn[43:77, 53:97].astype(float), before[43:77, 53:97].astype(float)
    target = np.array(color(0))
    assert (np.abs(inside[0] - target) <= np.abs(inside[1] - target)).all()  # closer to the class's color
    correlation = np.corrcoef(inside[0].ravel(), inside[1].ravel())[0, 1]
    assert correlation > 0.3  # the image stays visible


def test_the_first_detection_is_drawn_on_top():
    drawn = draw(picture(), np.array([[20, 30, 60, 90]] * 2), [1, 2])
    assert tuple(drawn[30, 40]) == color(1)


@pytest.mark.parametrize("box", [(-50, -20, 30, 40), (140, 100, 400, 300), (-9, -9, 999, 999), (1e7, 1e7, 2e7, 2e7)])
def test_boxes_are_clipped_to_the_image(box):
    before = picture()
    drawn = draw(before, np.array([box], np.float32), [0])
    left, top = np.clip(box[:2], 0, (159, 119)).astype(int)
    right, bottom = np.clip(box[2:], 1, (160, 120)).astype(int)
    where = changed(drawn, before)
    assert where.any()
    where[top:bottom, left:right] = False
    assert not where.any()


@pytest.mark.parametrize("height, width", [(1, 1), (3, 7), (10, 2000), (2000, 10)])
def test_any_size_of_image_and_box(height, width):
    boxes = np.array([[0, 0, 0, 0], [-5, -5, -1, -1], [0, 0, width, height], [width, height, width + 1, height + 1]])
    masks = np.zeros((4, height, width), bool)
    masks[2] = True
    drawn = draw(picture(height, width), boxes, [0, 1, 2, 3], ["a name that is long 0.99"] * 4, masks)
    assert drawn.shape == (height, width, 3)


@pytest.mark.parametrize("box", [(0, 0, 40, 40), (120, 0, 160, 40), (150, 110, 160, 120), (60, 60, 90, 90)])
@pytest.mark.parametrize("text", ["circle 0.93", "a class with a very, very long name 0.50"])
def test_captions_stay_inside_the_image_on_a_filled_background(box, text):
    """Checks that the background is a rectangle of the class's color with text that contrasts with it."""
    before = np.full((120, 160, 3), 127, np.uint8)
    without, drawn = draw(before, np.array([box]), [0]), draw(before, np.array([box]), [0], [text])
    rows, columns = np.nonzero(changed(drawn, without))
    part = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].reshape(-1, 3).astype(int)
    background = np.abs(part - color(0)).sum(1) == 0
    assert background.mean() > 0.4
    luminance = part @ (0.299, 0.587, 0.114)
    assert np.ptp(luminance) > 100  # readable
    assert not (part == 127).all(1).any()  # the background is opaque
    assert (drawn[rows.min() : rows.max() + 1, columns.max()] == color(0)).all()  # background right of the text


@pytest.mark.parametrize("scale", [1, 3])
def test_lines_do_not_fill_small_objects(scale):
    """Draws an object of 12 pixels in an image whose lines would be five pixels wide."""
    before = np.full((1200, 1600, 3), 100, np.uint8)
    drawn = draw(before, np.array([[700, 600, 712, 612]]), [0], scale=scale)
    inside = np.s_[602 * scale : 610 * scale, 702 * scale : 710 * scale]
    assert not changed(drawn[inside], drawn[:1, :1]).any() and drawn.shape == (1200 * scale, 1600 * scale, 3)


def test_enlarged_drawings():
    """Checks that boxes and masks are drawn at their scaled positions."""
    before, mask = picture(), np.zeros((120, 160), bool)
    mask[40:80, 50:100] = True
    drawn = draw(before, np.array([[20, 30, 60, 90]]), [3], masks=mask[None], scale=4)
    where = changed(drawn, draw(before, np.zeros((0, 4)), [], scale=4))
    rows, columns = np.nonzero(where)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(box, (4 * 20, 4 * 30, 4 * 100, 4 * 90), atol=2)  # half a line outside of the mask
    assert where[164:316, 204:396].mean() > 0.9 and not where[:118].any()
    average = draw(before, np.zeros((0, 4)), [], scale=4).reshape(120, 4, 160, 4, 3).mean((1, 3))
    assert np.abs(average - before).mean() < 20  # the pixels themselves, interpolated


def test_small_images_are_enlarged_by_an_integer():
    assert [enlargement(*size) for size in ((480, 640), (256, 256), (240, 320), (32, 32), (1, 1), (600, 900))] == [
        1, 3, 2, 8, 8, 1
    ]  # fmt: skip


def test_captions_do_not_overlap():
    """Draws two objects at the same position and checks that both captions are complete."""
    before = np.full((480, 640, 3), 127, np.uint8)
    boxes, captions = np.array([[200, 200, 300, 300]] * 2), ["first 0.90", "second 0.80"]
    both = draw(before, boxes, [1, 2], captions)
    without = draw(before, boxes, [1, 2])
    for label in (1, 2):
        ground = (both == color(label)).all(2) & changed(both, without)
        rows, columns = np.nonzero(ground)
        part = both[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        other = (part == color(3 - label)).all(2)
        assert ground.sum() > 500 and not other.any()


def test_colors_are_stable_and_distinct():
    colors = np.array([color(label) for label in range(80)])
    assert len(np.unique(colors, axis=0)) == 80
    distances = np.abs(colors[:10, None] - colors[None, :10]).sum(-1)
    assert distances[~np.eye(10, dtype=bool)].min() > 60
    assert color(np.int64(7)) == color(7)


def test_line_width_grows_with_the_image():
    assert [line_width(*size) for size in ((120, 160), (480, 640), (1200, 1600), (3000, 4000))] == [1, 2, 5, 12]


def test_a_sheet_contains_every_image_uncropped():
    pictures = [np.full((h, w, 3), value, np.uint8) for value, (h, w) in enumerate([(4, 9), (7, 3), (5, 5)])]
    page = sheet(pictures, columns=2, gap=1)
    assert page.shape == (1 + 2 * (7 + 1), 1 + 2 * (9 + 1), 3)
    for value, (y, x) in enumerate([(1, 1), (1, 11), (9, 1)]):
        h, w = pictures[value].shape[:2]
        assert (page[y : y + h, x : x + w] == value).all() and (page == value).all(2).sum() == h * w
    assert sheet(pictures[:1], columns=5, gap=0).shape == (4, 9, 3)


@pytest.mark.parametrize(
    "size, expected",
    [
        ((640, 300), (640, 300)),
        ((160, 90), (160, 90)),
        ((50, 40), (200, 160)),
        ((1280, 640), (640, 320)),
        ((2000, 1), (640, 1)),
    ],
)
def test_images_for_logs_are_resized_to_a_moderate_size(size, expected):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    resized = fitted(pixels)
    assert resized.shape == (*expected, 3)
    if expected >= size:  # enlarged by an integer
        factor = expected[0] // size[0]
        assert (resized[::factor, ::factor] == pixels).all() and (
            resized[factor - 1 :: factor] == resized[::factor]
        ).all()


@pytest.mark.parametrize("labels, colors", [([4, 4, 4], [0, 1, 2]), ([4, 4, 1], [4, 4, 1]), ([4], [4]), ([], [])])
def test_objects_have_distinct_colors_if_all_have_one_class(labels, colors):
    assert list(apart(labels)) == colors
    boxes = np.array([[10 + 40 * k, 10, 40 + 40 * k, 60] for k in range(len(labels))], np.float32).reshape(-1, 4)
    result = Result.of(boxes, np.full(len(labels), 0.5, np.float32), np.array(labels, int), ["a"] * 5, (120, 160))
    for given, expected in (("auto", colors), ("class", labels)):
        drawn = result.draw(np.zeros((120, 160, 3), np.uint8), colors=given)
        assert [tuple(drawn[59, 20 + 40 * k]) for k in range(len(labels))] == [color(number) for number in expected]
