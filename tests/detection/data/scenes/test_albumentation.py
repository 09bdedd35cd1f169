"""Albumentations' transforms on scenes: annotations match the transformed images."""

import numpy as np
import pytest

from resdet.detection.data.albumentations_bridge import SceneAlbumentation
from resdet.detection.data.scene import Scene
from resdet.errors import ConfigError

KINDS = pytest.mark.parametrize("kind", ["polygons", "bitmaps"])


@KINDS
@pytest.mark.parametrize(
    "entry, iou",
    [
        ({"HorizontalFlip": {"p": 1}}, 0.99),
        ({"RandomRotate90": {"p": 1}}, 0.99),
        ({"Affine": {"rotate": [-30, 30], "shear": [-10, 10], "scale": [0.7, 1.3], "p": 1}}, 0.85),
        ({"ElasticTransform": {"p": 1}}, 0.85),
        ({"RandomScale": {"scale_limit": [0.5, 0.6], "p": 1}}, 0.85),
        ({"RandomCrop": {"height": 70, "width": 80, "p": 1}}, 0.99),
        ({"Perspective": {"p": 1}}, 0.85),
    ],
)
def test_geometric_transforms_move_objects(fakes, rng, kind, entry, iou):
    run = SceneAlbumentation([entry])
    sizes = set()
    for _ in range(4):
        scene = fakes.scene(rng, kind=kind)
        made = run(scene, rng)
        fakes.assert_truthful(made, iou, pixels=2)
        sizes.add(made.size)
    assert sizes == {(80, 70)} or "RandomCrop" not in entry


def test_boxes_without_masks_are_moved(fakes, rng):
    scene = fakes.scene(rng)
    scene.segments = [None, *scene.segments[1:]]
    made = SceneAlbumentation([{"HorizontalFlip": {"p": 1}}])(scene, rng)
    wanted = scene.boxes.copy()
    wanted[:, [0, 2]] = 160 - scene.boxes[:, [2, 0]]
    np.testing.assert_allclose(made.boxes, wanted, atol=1e-3)
    assert made.segments[0] is None and made.labels.tolist() == [0, 1, 2]


def test_color_transforms_keep_objects(fakes, rng):
    scene = fakes.scene(rng)
    made = SceneAlbumentation([{"InvertImg": {"p": 1}}])(scene, rng)
    np.testing.assert_array_equal(made.pixels, 255 - scene.pixels)
    assert made.segments is scene.segments and made.boxes is scene.boxes


def test_objects_outside_the_crop_are_dropped(fakes, rng):
    scene = fakes.scene(rng)
    run = SceneAlbumentation([{"Crop": {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1, "p": 1}}])
    assert len(scene) and not len(run(scene, rng))
    half = SceneAlbumentation([{"Crop": {"x_min": 0, "y_min": 0, "x_max": 80, "y_max": 120, "p": 1}}])(scene, rng)
    fakes.assert_truthful(half, iou=0.97)


@pytest.mark.parametrize("entry", [{"Affine": {"rotate": 20, "p": 1}}, {"CLAHE": {"p": 1}}])
@pytest.mark.parametrize("size", [(1, 1), (50, 40)])
def test_images_without_objects(fakes, rng, entry, size):
    made = SceneAlbumentation([entry])(fakes.scene(rng, *size, labels=()), rng)
    assert made.size == size and len(made) == 0 and made.boxes.shape == (0, 4)


def test_transforms_depend_only_on_the_generator(fakes):
    scene = fakes.scene(np.random.default_rng(1))
    entries = [{"Affine": {"rotate": [-30, 30], "p": 0.7}}, {"ColorJitter": {"p": 0.5}}, {"HorizontalFlip": {"p": 0.5}}]
    run = SceneAlbumentation(entries)

    def results() -> list[Scene]:
        return [run(scene, np.random.default_rng(seed)) for seed in range(6)]

    np.random.seed(1)
    first = results()
    np.random.seed(2)
    for one, other in zip(first, results()):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert len({one.pixels.tobytes() for one in first}) == 6


@pytest.mark.parametrize(
    "entry, words", [({"Afine": {}}, ["Afine", "Affine"]), ({"Affine": {"rotat": 3}}, ["Affine", "rotat"])]
)
def test_an_invalid_entry_is_refused_at_construction(entry, words):
    with pytest.raises(ConfigError) as error:
        SceneAlbumentation([entry])
    assert all(word in str(error.value) for word in ["data.augment.albumentations", *words])


@pytest.mark.parametrize("entry", [{"ToFloat": {}}, {"RandomCrop": {"height": 999, "width": 999, "p": 1}}])
def test_a_failing_transform_is_refused_at_first_use(fakes, rng, entry):
    run = SceneAlbumentation([entry])
    with pytest.raises(ConfigError, match=next(iter(entry))):
        run(fakes.scene(rng), rng)
