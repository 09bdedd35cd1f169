"""What a picture and its objects go through between the files and the batch."""

from typing import Any

import numpy as np

from resdet.data.color import pca_color
from resdet.detection.data.albumentations_bridge import SceneAlbumentation
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.compose import copy_paste, mosaic
from resdet.detection.data.geometry import flip, jitter, load, random_crop, resize_short, shrink_to_fit
from resdet.detection.data.scene import Scene
from resdet.errors import ConfigError


class TrainScene:
    """Image `index` of a source, augmented; what comes out depends on source, index and rng alone."""

    def __init__(self, config: SceneConfig):
        self.config = config
        self.albumentation = SceneAlbumentation(config.albumentations) if config.albumentations else None

    def __call__(self, source: Any, index: int, rng: np.random.Generator) -> Scene:
        config = self.config
        scene = self.framed(source, index, rng)
        if rng.random() < config.copy_paste:
            if not source.has_masks:
                raise ConfigError(f"data.augment.copy_paste is {config.copy_paste} and the data have no masks: set 0.")
            scene = copy_paste(scene, self.framed(source, another(source, rng), rng), rng)
        if self.albumentation:
            scene = shrink_to_fit(self.albumentation(scene, rng), *config.limits())
        if config.pca_color > 0:
            scene.pixels = pca_color(scene.pixels, rng, config.pca_color)
        return scene

    def framed(self, source: Any, index: int, rng: np.random.Generator) -> Scene:
        """Up to the picture's final size: mosaic, flip, crop, and resize or jitter."""
        config = self.config
        short, long, factor = self.sides(rng)
        cropped = rng.random() < config.crop
        share = config.crop_range[0] if cropped else 1
        scene = load(source, index, short / share, long / share)
        if rng.random() < config.mosaic:
            others = [load(source, another(source, rng), short / share, long / share) for _ in range(3)]
            scene = mosaic([scene, *others], rng)
        if rng.random() < config.flip:
            scene = flip(scene)
        if cropped:
            scene = random_crop(scene, rng, config.crop_range)
        if config.scale_jitter:
            return jitter(scene, rng, factor, config.jitter_size)
        return resize_short(scene, short, long)

    def sides(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """The limits of a picture's short and long side, and the jitter's factor that they are due to."""
        config = self.config
        if config.scale_jitter:
            factor = rng.uniform(*config.scale_jitter)
            return factor * config.jitter_size, factor * config.jitter_size, factor
        if config.min_size_sampling == "range":
            return int(rng.integers(*config.min_size, endpoint=True)), config.max_size, 1.0
        return int(rng.choice(config.min_size)), config.max_size, 1.0


class EvalScene:
    """The same without augmentation: a resize to the short side, or less where the long one would be too long."""

    def __init__(self, short: int, long: int):
        self.short, self.long = short, long

    def __call__(self, source: Any, index: int, rng: np.random.Generator) -> Scene:
        return resize_short(load(source, index, self.short, self.long), self.short, self.long)


def another(source: Any, rng: np.random.Generator) -> int:
    return int(rng.integers(len(source)))
