"""The whole augmentation: annotations match the images, sizes keep their limits, and results are reproducible."""

import numpy as np
import pytest

from resdet.detection.data import transforms
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.geometry import read_scene, resize_short
from resdet.detection.data.transforms import TrainScene
from resdet.errors import ConfigError

CONFIGS = {
    "plain": {},
    "several sides": {"min_size": [60, 90, 100]},
    "range": {"min_size": [60, 100], "min_size_sampling": "range"},
    "crop": {"crop": 1.0},
    "mosaic": {"mosaic": 1.0},
    "jitter": {"scale_jitter": (0.3, 2.0), "jitter_size": 128},
    "copy-paste": {"copy_paste": 1.0},
    "modern": {"scale_jitter": (0.3, 2.0), "jitter_size": 128, "copy_paste": 0.5, "mosaic": 0.5, "crop": 0.5},
    "named": {"albumentations": [{"Affine": {"scale": [0.8, 1.2], "p": 1}}, {"RandomScale": {"p": 1}}]},
}


def config(**keys) -> SceneConfig:
    return SceneConfig(**{"min_size": [100], "max_size": 150, **keys})


@pytest.fixture
def source(fakes, rng):
    sizes = [(160, 120), (120, 160), (300, 100), (64, 64), (200, 150)]
    made = [
        fakes.make(rng, *size, labels=(i % 3,), kind=("polygons", "bitmaps")[i % 2]) for i, size in enumerate(sizes)
    ]
    return fakes.Source([*made, fakes.make(rng, labels=())])


@pytest.mark.parametrize("name", CONFIGS)
def test_annotations_match_the_images_and_sizes_keep_the_limits(fakes, source, name):
    settings = config(**CONFIGS[name])
    transform, limits = TrainScene(settings), settings.limits()
    for seed in range(12):
        made = transform(source, seed % len(source), np.random.default_rng(seed))
        assert min(made.size) <= limits[0] and max(made.size) <= limits[1]
        fakes.assert_truthful(made, iou=0.7, pixels=8, small=300)  # small objects are enlarged, covered and cut


@pytest.mark.parametrize("name", CONFIGS)
def test_augmentation_depends_only_on_the_generator(source, name):
    transform = TrainScene(config(**CONFIGS[name]))
    first = [transform(source, 0, np.random.default_rng(seed)) for seed in range(8)]
    again = [transform(source, 0, np.random.default_rng(seed)) for seed in reversed(range(8))][::-1]
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert len({one.pixels.tobytes() for one in first}) > 1


def test_flips_are_those_of_the_config(source):
    plain, across, down = (
        TrainScene(config(min_size=[200], max_size=400, **keys))(source, 0, np.random.default_rng(3)).pixels
        for keys in ({"flip": 0.0}, {"flip": 1.0}, {"flip": 0.0, "vertical_flip": 1.0})
    )
    assert np.abs(across[:, ::-1].astype(int) - plain).max() <= 1 and not np.array_equal(across, plain)
    assert np.abs(down[::-1].astype(int) - plain).max() <= 1 and not np.array_equal(down, plain)


def test_sides_are_those_of_the_config(source):
    shorts = lambda **keys: {
        min(TrainScene(config(**keys))(source, 0, np.random.default_rng(seed)).size) for seed in range(60)
    }
    assert shorts() == {100}
    assert shorts(min_size=[50, 75, 100]) == {50, 75, 100}
    assert shorts(min_size=[50, 53], min_size_sampling="range") == {50, 51, 52, 53}


def test_flip_has_its_probability(source):
    plain = resize_short(read_scene(source, 0, 100, 150), 100, 150).pixels
    flipped = [
        np.array_equal(TrainScene(config(flip=0.3))(source, 0, np.random.default_rng(seed)).pixels, plain[:, ::-1])
        for seed in range(300)
    ]
    assert 60 < sum(flipped) < 120
    unchanged = TrainScene(config(flip=0.0))(source, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(unchanged.pixels, plain)


@pytest.mark.parametrize(
    "key, function", [("crop", "random_crop"), ("mosaic", "mosaic"), ("copy_paste", "copy_paste"), ("flip", "flip")]
)
def test_augmentations_have_their_probabilities(source, monkeypatch, key, function):
    calls = []

    def count(scene, *_):
        calls.append(key)
        assert key != "mosaic" or len(scene) == 4
        return scene[0] if key == "mosaic" else scene

    monkeypatch.setattr(transforms, function, count)
    for probability, low, high in ((0.0, 0, 0), (0.25, 3, 18), (1.0, 40, 40)):
        calls.clear()
        for seed in range(40):
            TrainScene(config(**{"flip": 0.0, key: probability}))(source, 0, np.random.default_rng(seed))
        assert low <= len(calls) <= high


def test_color_shifts_the_whole_image(source):
    made = TrainScene(config(flip=0.0, pca_color=1.0))(source, 5, np.random.default_rng(0))
    assert np.ptp(made.pixels.reshape(-1, 3), 0).tolist() == [0, 0, 0] and made.pixels.any()


def test_copy_paste_of_data_without_masks_is_refused(source):
    source.has_masks = False
    with pytest.raises(ConfigError, match="data.augment.copy_paste"):
        TrainScene(config(copy_paste=1.0))(source, 0, np.random.default_rng(0))


def test_without_augmentation_scenes_are_only_resized(fakes, source):
    made = TrainScene(config(flip=0.0))(source, 2, np.random.default_rng(0))
    assert made.size == (150, 50)
    fakes.assert_truthful(made, iou=0.9)
    np.testing.assert_allclose(made.boxes, source.objects(2).boxes / 2, atol=1e-4)
