"""Augmentation config for classification: the paper's (section 3.4), and newer methods.

This module imports no heavy packages. `transforms` builds the pipeline; `mix` blends whole batches on the device.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from resdet.errors import require

MAGNITUDES = 31  # number of magnitudes in both policies


@dataclass
class AugmentConfig:
    """The training augmentation, in this order; the defaults are the paper's (section 3.4)."""

    # scale_jitter: a random crop of the image at a random scale, as in the paper; random_resized: a crop of random area
    # and aspect ratio (Inception)
    crop: Literal["scale_jitter", "random_resized"] = "scale_jitter"
    short: tuple[int, int] = (256, 480)  # scale_jitter: range of the shorter side in pixels
    area: tuple[float, float] = (0.08, 1.0)  # random_resized: range of the crop's area, as a share of the image
    flip: float = 0.5  # probability of a horizontal flip
    vertical_flip: float = 0.0  # probability of a vertical flip, for images without a fixed upright
    policy: Literal["none", "trivial", "rand"] = "none"  # random operations: none, TrivialAugment Wide or RandAugment
    rand_n: int = 2  # rand: operations per image
    rand_magnitude: int = 9  # rand: strength of the operations, from 0 to 30
    # albumentations transforms of the crop, `[{Name: {argument: value}}]`
    albumentations: list[Any] = field(default_factory=list)
    pca_color: float = 0.1  # standard deviation of the color augmentation along principal components; 0: off
    erasing: float = 0.0  # probability of random erasing
    mixup: float = 0.0  # alpha of mixup's Beta distribution, applied to whole batches on the device; 0: off
    cutmix: float = 0.0  # alpha of CutMix's Beta distribution, applied to whole batches on the device; 0: off


def check(config: AugmentConfig, size: int) -> None:
    """Validates the values for crops of `size` pixels; raises a ConfigError with the key."""
    jittered = config.crop == "scale_jitter"
    probability, not_negative = "it is a probability, from 0 to 1", "it cannot be negative"
    rules = {
        "crop": (config.crop in ("scale_jitter", "random_resized"), "choose scale_jitter or random_resized"),
        "short": (
            not jittered or size <= config.short[0] <= config.short[1],
            f"give the smaller side first, and at least the crop size, {size}",
        ),
        "area": (
            0 < config.area[0] <= config.area[1] <= 1,
            "give two fractions of the image, 0 < smaller <= larger <= 1",
        ),
        "flip": (0 <= config.flip <= 1, probability),
        "vertical_flip": (0 <= config.vertical_flip <= 1, probability),
        "policy": (config.policy in ("none", "trivial", "rand"), "choose none, trivial or rand"),
        "rand_n": (config.rand_n >= 0, not_negative),
        "rand_magnitude": (0 <= config.rand_magnitude < MAGNITUDES, f"choose 0 to {MAGNITUDES - 1}"),
        "pca_color": (config.pca_color >= 0, not_negative),
        "erasing": (0 <= config.erasing <= 1, probability),
        "mixup": (config.mixup >= 0, not_negative),
        "cutmix": (config.cutmix >= 0, not_negative),
    }
    for key, (holds, remedy) in rules.items():
        require(holds, f"data.augment.{key}", getattr(config, key), remedy)
