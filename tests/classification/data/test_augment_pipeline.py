"""Tests the transforms built from a config, and the rejection of invalid configs."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from resdet.classification.data.augment_config import AugmentConfig
from resdet.classification.data.erasing import random_erasing
from resdet.classification.data.policies import rand_augment, trivial_augment
from resdet.classification.data.transforms import TrainTransform
from resdet.config import from_dict
from resdet.data.color import Albumentations, pca_color
from resdet.errors import ConfigError
from resdet.images.crops import random_flip, random_resized_crop, scale_jitter_crop


class Picture:
    def __init__(self, width=70, height=50):
        self.size = (width, height)
        self.pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def decode(self, smallest=None):
        return self.pixels


EVERYTHING = dict(
    short=(32, 64), policy="rand", erasing=0.5, pca_color=0.1, albumentations=[{"GaussianBlur": {"p": 0.5}}]
)


def test_defaults_are_those_of_the_paper():
    config = AugmentConfig()
    assert (config.crop, config.short, config.flip, config.pca_color) == ("scale_jitter", (256, 480), 0.5, 0.1)
    assert (config.policy, config.erasing, config.mixup, config.cutmix) == ("none", 0, 0, 0)


BLUR = [{"GaussianBlur": {"p": 0.5}}]
STEPS = {
    "crop": ({"flip": 0.0}, []),
    "flip": ({"flip": 0.3}, [lambda x, rng: random_flip(x, rng, 0.3)]),
    "vertical flip": (
        {"flip": 0.0, "vertical_flip": 0.3},
        [lambda x, rng: x[::-1] if rng.random() < 0.3 else x],
    ),
    "trivial": ({"flip": 0.0, "policy": "trivial"}, [trivial_augment]),
    "all": (
        {"policy": "rand", "rand_n": 3, "rand_magnitude": 5, "albumentations": BLUR, "pca_color": 0.5, "erasing": 0.7},
        [
            random_flip,
            lambda x, rng: rand_augment(x, rng, 3, 5),
            lambda x, rng: Albumentations(BLUR)(x, rng),
            lambda x, rng: pca_color(x, rng, 0.5),
            lambda x, rng: random_erasing(x, rng, 0.7),
        ],
    ),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("crop", ["scale_jitter", "random_resized"])
def test_steps_are_applied_in_order(name, crop):
    """Compares images and the state of the generator: a step that is off draws no numbers."""
    settings, steps = STEPS[name]
    config = AugmentConfig(**{"crop": crop, "short": (32, 64), "area": (0.2, 0.5), "pca_color": 0.0, **settings})
    transform = TrainTransform(config, 32)
    for seed in range(8):
        found_rng, rng = np.random.default_rng(seed), np.random.default_rng(seed)
        cut = scale_jitter_crop if crop == "scale_jitter" else random_resized_crop
        wanted = cut(Picture(), rng, 32, (32, 64) if crop == "scale_jitter" else (0.2, 0.5))
        for step in steps:
            wanted = step(wanted, rng)
        np.testing.assert_array_equal(transform(Picture(), found_rng), wanted)
        assert found_rng.bit_generator.state == rng.bit_generator.state


@pytest.mark.parametrize("crop", ["scale_jitter", "random_resized"])
@pytest.mark.parametrize("policy", ["none", "trivial", "rand"])
def test_results_depend_only_on_the_generator(crop, policy):
    transform = TrainTransform(AugmentConfig(**(EVERYTHING | {"crop": crop, "policy": policy})), 32)
    copy = pickle.loads(pickle.dumps(transform))
    results = [transform(Picture(), np.random.default_rng(seed)) for seed in range(5)]
    again = [copy(Picture(), np.random.default_rng(seed)) for seed in reversed(range(5))][::-1]
    np.testing.assert_array_equal(results, again)
    assert all(result.shape == (32, 32, 3) and result.dtype == np.uint8 for result in results)
    assert len({result.tobytes() for result in results}) == 5


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (32, 32)])
def test_images_smaller_than_the_crop_are_enlarged(size):
    for crop in ("scale_jitter", "random_resized"):
        transform = TrainTransform(AugmentConfig(crop=crop, short=(32, 64)), 32)
        assert transform(Picture(*size), np.random.default_rng(0)).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "key, value",
    [
        ("crop", "center"),
        ("short", (31, 64)),
        ("short", (64, 40)),
        ("area", (0.0, 1.0)),
        ("area", (0.5, 1.1)),
        ("area", (0.5, 0.1)),
        ("flip", -0.1),
        ("flip", 1.5),
        ("policy", "auto"),
        ("rand_n", -1),
        ("rand_magnitude", 31),
        ("pca_color", -0.1),
        ("erasing", 2.0),
        ("mixup", -1.0),
        ("cutmix", -1.0),
    ],
)
def test_errors_name_the_key_of_an_invalid_value(key, value):
    with pytest.raises(ConfigError, match=rf"data\.augment\.{key} is "):
        TrainTransform(AugmentConfig(**({"short": (32, 64)} | {key: value})), 32)


def test_random_resized_crops_ignore_the_short_side():
    TrainTransform(AugmentConfig(crop="random_resized"), 288)
    with pytest.raises(ConfigError, match="288"):
        TrainTransform(AugmentConfig(), 288)


def test_a_loaded_config_builds_a_transform():
    augment = {"short": [32, 64], "albumentations": [{"GaussianBlur": {"p": 0.5}}], "policy": "trivial"}
    data = {"name": "folder", "size": 32, "augment": augment}
    config = from_dict({"task": "classification", "data": data}).data.augment
    assert isinstance(config, AugmentConfig)
    assert TrainTransform(config, 32)(Picture(), np.random.default_rng(0)).shape == (32, 32, 3)


def test_reading_the_config_imports_nothing_heavy():
    heavy = "{'cv2', 'torch', 'numpy', 'albumentations', 'torchvision'}"
    code = f"import sys, resdet.classification.data.augment_config; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
