"""Keypoints under augmentation, compared with colored marks painted at the keypoints."""

import numpy as np
import pytest

from resdet.detection.data.annotations import Objects
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.collate import Sample, TargetFormat, collate_scenes
from resdet.detection.data.compose import copy_paste, mosaic
from resdet.detection.data.geometry import flip, jitter, random_crop, resize, vertical_flip, window
from resdet.detection.data.keypoints import Keypoints, mirror_of
from resdet.detection.data.scene import Scene
from resdet.detection.data.segmentation import Polygons
from resdet.errors import ConfigError

NAMES = ["nose", "left_eye", "right_eye"]
COLORS = [(0, 0, 250), (250, 0, 0), (0, 250, 0)]  # colors of the marks at the keypoints
MIRRORED = [COLORS[0], COLORS[2], COLORS[1]]


def scene(rng, width=160, height=120, count=3) -> Scene:
    """Makes objects with a mark of 11 pixels at each of their three keypoints, on gray."""
    pixels = np.full((height, width, 3), 60, np.uint8)
    points = np.zeros((count, 3, 3), np.float32)
    for row, column in ((row, column) for row in range(count) for column in range(3)):
        x, y = 10 + 45 * column + rng.integers(20), 8 + 38 * row + rng.integers(20)
        pixels[y - 5 : y + 6, x - 5 : x + 6] = COLORS[column]
        points[row, column] = x + 0.5, y + 0.5, 2
    low, high = points[..., :2].min(1) - 5.5, points[..., :2].max(1) + 5.5
    boxes = np.concatenate([low, high], 1).clip(0, [width, height] * 2).astype(np.float32)
    segments = [Polygons([box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2).astype(np.float64)]) for box in boxes]
    keypoints = Keypoints(points, mirror_of(NAMES))
    return Scene(pixels, boxes, np.zeros(count, np.int64), np.zeros(count, bool), segments, keypoints)


def assert_truthful(made: Scene, colors=COLORS) -> None:
    """Checks that each visible keypoint lies on its mark and that others are zeros."""
    points = made.keypoints.points
    assert points.shape == (len(made), 3, 3) and points.dtype == np.float32
    for one in points:
        for (x, y, visibility), color in zip(one, colors):
            if visibility == 0:
                assert x == y == 0
                continue
            column, row = min(int(x), made.size[0] - 1), min(int(y), made.size[1] - 1)
            assert 0 <= x <= made.size[0] and 0 <= y <= made.size[1]
            assert np.abs(made.pixels[row, column].astype(int) - color).max() < 90


def test_mirror_pairs_are_found_by_name():
    assert mirror_of(["nose", "left_eye", "right_eye", "left_ear", "tail"]).tolist() == [0, 2, 1, 3, 4]
    spelled = ["L_Eye", "R_Eye", "ear-left", "ear-right", "Left hip", "right hip", "leftKnee", "rightKnee", "toeRight"]
    assert mirror_of([*spelled, "toeLeft"]).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    plain = ["lip", "rib", "cleft", "bright", "lefty", "roof_r", "l"]
    assert mirror_of(plain).tolist() == [*range(len(plain))]


def test_a_flip_mirrors_places_and_swaps_left_and_right(rng):
    made = scene(rng)
    flipped = flip(made)
    before, after = made.keypoints.points, flipped.keypoints.points
    np.testing.assert_allclose(after[:, [0, 2, 1], 0], 160 - before[..., 0])
    np.testing.assert_array_equal(after[:, [0, 2, 1], 1:], before[..., 1:])
    assert_truthful(flipped, MIRRORED)
    np.testing.assert_array_equal(flip(flipped).keypoints.points, before)


def test_a_vertical_flip_swaps_left_and_right_and_half_a_turn_does_not(rng):
    made = scene(rng)
    flipped, turned = vertical_flip(made), vertical_flip(flip(made))
    np.testing.assert_allclose(flipped.keypoints.points[:, [0, 2, 1], 1], 120 - made.keypoints.points[..., 1])
    assert_truthful(flipped, MIRRORED)
    assert_truthful(turned, COLORS)


def test_resizing(rng):
    made = scene(rng)
    np.testing.assert_allclose(resize(made, 320, 180).keypoints.points, made.keypoints.points * (2, 1.5, 1), rtol=1e-6)


def test_keypoints_outside_a_crop_are_invisible(rng):
    made = window(scene(rng), 40, 0, 60, 120)
    assert_truthful(made)
    visible = made.keypoints.points[..., 2] > 0
    assert visible.any() and not visible.all()


def test_points_on_the_borders_are_inside():
    points = np.array([[[0, 0, 2], [10, 5, 1], [10.5, 5, 2], [10, 5.5, 2], [-0.5, 0, 2], [0, -0.5, 2]]], np.float32)
    moved = Keypoints(points, np.arange(6)).moved((1, 1), (0, 0), (10, 5)).points
    assert moved.tolist() == [[[0, 0, 2], [10, 5, 1], *[[0, 0, 0]] * 4]]


def test_visible_points_under_a_cover_become_hidden():
    """Covers three pixels of 4×4; the last point lies on the corner of the image."""
    points = np.array([[[2.5, 1.5, 2], [2.5, 1.5, 1], [0, 0, 0], [1.5, 2.5, 2], [4, 4, 2]]], np.float32)
    cover = np.zeros((4, 4), bool)
    cover[[1, 0, 3], [2, 0, 3]] = True
    keypoints = Keypoints(points, np.arange(5))
    hidden = keypoints.without(cover)
    assert hidden.points[0, :, 2].tolist() == [1, 1, 0, 2, 1] and (hidden.points[..., :2] == points[..., :2]).all()
    assert keypoints.points[0, :, 2].tolist() == [2, 1, 0, 2, 2]


def test_random_crops_jitter_and_mosaics(rng):
    for _ in range(15):
        assert_truthful(random_crop(scene(rng), rng, (0.4, 0.9)))
        assert_truthful(jitter(scene(rng), rng, rng.uniform(0.5, 2), 150))
        assert_truthful(mosaic([scene(rng, 160, 120) for _ in range(4)], rng))


def test_pasted_objects_have_keypoints_and_hide_others(rng):
    hidden = 0
    for _ in range(10):
        made = copy_paste(scene(rng), scene(rng), rng)
        points = made.keypoints.points
        hidden += (points[..., 2] == 1).sum()
        seen = Keypoints(np.where(points[..., 2:] == 1, 0, points), made.keypoints.mirror)
        assert_truthful(Scene(made.pixels, made.boxes, made.labels, made.crowd, made.segments, seen))
    assert hidden > 0


def test_selecting_objects_selects_keypoints(rng):
    made = scene(rng)
    np.testing.assert_array_equal(made.select(np.array([2, 0])).keypoints.points, made.keypoints.points[[2, 0]])


def test_keypoints_are_scaled_to_the_image(rng):
    made = scene(rng)
    objects = Objects(made.boxes, made.labels, made.crowd, made.segments, made.keypoints)
    halved = Scene.of(made.pixels[::2, ::2], objects, (0.5, 0.5))
    np.testing.assert_allclose(halved.keypoints.points, made.keypoints.points * (0.5, 0.5, 1))


def test_batches_have_as_many_keypoints_as_the_model(rng):
    """Collates an image with objects, one without, and an unreadable one."""
    full, bare = scene(rng), scene(rng).select(np.zeros(0, np.int64))
    samples = [Sample(made, i, "") for i, made in enumerate([full, bare, None])]
    targets = collate_scenes(samples, lambda h, w: (128, 160), TargetFormat(keypoints=3))[0].targets
    assert targets.keypoints.shape == (3, 8, 3, 3)
    order = np.argsort(-(full.boxes[:, 2:] - full.boxes[:, :2]).prod(1), kind="stable")
    np.testing.assert_array_equal(targets.keypoints[0, :3], full.keypoints.points[order])
    assert not targets.keypoints[0, 3:].any() and not targets.keypoints[1:].any()
    assert collate_scenes(samples, lambda h, w: (128, 160))[0].targets.keypoints is None


def test_spatial_albumentations_are_refused(rng):
    pytest.importorskip("albumentations")
    from resdet.detection.data.albumentations_bridge import SceneAlbumentation

    config = SceneConfig(min_size=[100], albumentations=[{"Affine": {"rotate": [-10, 10]}}])
    with pytest.raises(ConfigError, match="data.keypoints=false"):
        SceneAlbumentation(config.albumentations)(scene(rng), rng)
    colors = SceneAlbumentation([{"RandomBrightnessContrast": {"p": 1.0}}])
    assert colors(scene(rng), rng).keypoints is not None
