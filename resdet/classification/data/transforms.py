"""The training transform of images; for test crops see resdet/classification/test_crops.py."""

from functools import partial

import numpy as np

from resdet.classification.data.augment_config import AugmentConfig, check
from resdet.classification.data.erasing import random_erasing
from resdet.classification.data.policies import rand_augment, trivial_augment
from resdet.data.color import Albumentations, pca_color
from resdet.images.crops import Image, random_flip, random_resized_crop, scale_jitter_crop


class TrainTransform:
    """Crops and augments an image to uint8 [size, size, 3]; the result depends only on image and rng."""

    def __init__(self, config: AugmentConfig, size: int):
        check(config, size)
        self.crop = {
            "scale_jitter": partial(scale_jitter_crop, size=size, short=config.short),
            "random_resized": partial(random_resized_crop, size=size, scale=config.area),
        }[config.crop]
        policy = {
            "none": None,
            "trivial": trivial_augment,
            "rand": partial(rand_augment, n=config.rand_n, magnitude=config.rand_magnitude),
        }[config.policy]
        steps = [
            config.flip > 0 and partial(random_flip, p=config.flip),
            config.vertical_flip > 0 and partial(random_flip, p=config.vertical_flip, axis=0),
            policy,
            len(config.albumentations) > 0 and Albumentations(config.albumentations),
            config.pca_color > 0 and partial(pca_color, std=config.pca_color),
            config.erasing > 0 and partial(random_erasing, p=config.erasing),
        ]
        self.steps = [step for step in steps if step]

    def __call__(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        pixels = self.crop(image, rng)
        for step in self.steps:
            pixels = step(pixels, rng)
        return pixels
