"""Reading and augmentation of scenes for a batch."""

import numpy as np

from resdet.data.color import pca_color
from resdet.detection.data.albumentations_bridge import SceneAlbumentation
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.compose import copy_paste, mosaic
from resdet.detection.data.geometry import (
    flip,
    jitter,
    random_crop,
    read_scene,
    resize_short,
    shrink_to_fit,
    vertical_flip,
)
from resdet.detection.data.scene import Scene
from resdet.errors import ConfigError


class TrainScene:
    """Reads and augments image `index` of a source; deterministic for a given rng."""

    def __init__(self, config: SceneConfig):
        self.config = config
        self.albumentation = SceneAlbumentation(config.albumentations) if config.albumentations else None

    def __call__(self, source: Annotations, index: int, rng: np.random.Generator) -> Scene:
        config = self.config
        scene = self.resized(source, index, rng)
        if rng.random() < config.copy_paste:
            if not source.has_masks:
                raise ConfigError(f"data.augment.copy_paste is {config.copy_paste} and the data has no masks: set 0.")
            scene = copy_paste(scene, self.resized(source, random_index(source, rng), rng), rng)
        if self.albumentation:
            scene = shrink_to_fit(self.albumentation(scene, rng), *config.limits())
        if config.pca_color > 0:
            scene.pixels = pca_color(scene.pixels, rng, config.pca_color)
        return scene

    def resized(self, source: Annotations, index: int, rng: np.random.Generator) -> Scene:
        """Applies the first steps, up to the final size: mosaic, flips, crop, and resize or jitter."""
        config = self.config
        short, long, factor = self.sides(rng)
        cropped = rng.random() < config.crop
        share = config.crop_range[0] if cropped else 1
        scene = read_scene(source, index, short / share, long / share)
        if rng.random() < config.mosaic:
            indices = [random_index(source, rng) for _ in range(3)]
            scene = mosaic([scene, *(read_scene(source, i, short / share, long / share) for i in indices)], rng)
        if rng.random() < config.flip:
            scene = flip(scene)
        # Draws no number if off, so that the other steps keep their random numbers.
        if config.vertical_flip and rng.random() < config.vertical_flip:
            scene = vertical_flip(scene)
        if cropped:
            scene = random_crop(scene, rng, config.crop_range)
        if config.scale_jitter:
            return jitter(scene, rng, factor, config.jitter_size)
        return resize_short(scene, short, long)

    def sides(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Draws random limits of the short and long sides, and the jitter factor."""
        config = self.config
        if config.scale_jitter:
            factor = rng.uniform(*config.scale_jitter)
            return factor * config.jitter_size, factor * config.jitter_size, factor
        if config.min_size_sampling == "range":
            low, high = config.min_size
            return int(rng.integers(low, high, endpoint=True)), config.max_size, 1.0
        return int(rng.choice(config.min_size)), config.max_size, 1.0


def random_index(source: Annotations, rng: np.random.Generator) -> int:
    return int(rng.integers(len(source)))
