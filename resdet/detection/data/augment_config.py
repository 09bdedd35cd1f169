"""Config of detection's augmentation; imports neither torch nor NumPy, so configs load quickly."""

from dataclasses import dataclass, field
from typing import Any, Literal

from resdet.errors import require


@dataclass
class SceneConfig:
    """Augmentation of images with objects, in this order; the defaults are the common 800-pixel recipe.

    With `scale_jitter` the image is resized to fit a square of `jitter_size` times a random factor, and cropped
    randomly to `jitter_size` (arXiv 2012.07177); `min_size` and `max_size` are then ignored.
    """

    mosaic: float = 0.0  # probability of a mosaic of four images
    flip: float = 0.5  # probability of a horizontal flip
    vertical_flip: float = 0.0  # probability of a vertical flip, for images without a fixed upright
    crop: float = 0.0  # probability of a random crop that contains the center of at least one object
    crop_range: tuple[float, float] = (0.5, 1.0)  # range of the crop's sides, as a share of the image's
    min_size: list[int] = field(default_factory=lambda: [800])  # shorter sides in pixels, limited by `max_size`
    # choice: one of `min_size`; range: uniform between the two of `min_size`
    min_size_sampling: Literal["choice", "range"] = "choice"
    max_size: int = 1333  # upper limit of the longer side in pixels
    # range of the random factor of large-scale jittering, such as [0.1, 2.0]; null: off
    scale_jitter: tuple[float, float] | None = None
    jitter_size: int = 1024  # with scale_jitter: side of the square in pixels
    copy_paste: float = 0.0  # probability of pasting objects of another image, by their masks
    # albumentations transforms of images and objects, `[{Name: {argument: value}}]`
    albumentations: list[Any] = field(default_factory=list)
    pca_color: float = 0.0  # standard deviation of the color augmentation along principal components; 0: off

    def __post_init__(self):
        check(self)

    def limits(self) -> tuple[int, int]:
        """Returns the maximum short and long sides of augmented images."""
        return (self.jitter_size, self.jitter_size) if self.scale_jitter else (max(self.min_size), self.max_size)


def check(config: SceneConfig) -> None:
    """Raises ConfigError on invalid values."""
    short, jitter, crop = config.min_size, config.scale_jitter, config.crop_range
    probability = "it is a probability, from 0 to 1"
    rules = {
        "mosaic": (0 <= config.mosaic <= 1, probability),
        "flip": (0 <= config.flip <= 1, probability),
        "vertical_flip": (0 <= config.vertical_flip <= 1, probability),
        "crop": (0 <= config.crop <= 1, probability),
        "crop_range": (0 < crop[0] <= crop[1] <= 1, "give two fractions, 0 < smaller <= larger <= 1"),
        "min_size": (len(short) > 0 and min(short) >= 1, "give one or more sides of at least 1 pixel"),
        "min_size_sampling": (
            config.min_size_sampling == "choice" or (len(short) == 2 and short[0] <= short[1]),
            f"a range needs two sides in data.augment.min_size, the smaller one first, not {list(short)}",
        ),
        "max_size": (
            config.max_size >= max(short, default=1),
            "it cannot be below the largest of data.augment.min_size",
        ),
        "scale_jitter": (jitter is None or 0 < jitter[0] <= jitter[1], "give two factors, 0 < smaller <= larger"),
        "jitter_size": (config.jitter_size >= 1, "give a side of 1 pixel or more"),
        "copy_paste": (0 <= config.copy_paste <= 1, probability),
        "pca_color": (config.pca_color >= 0, "it cannot be negative"),
    }
    for key, (holds, remedy) in rules.items():
        require(holds, f"data.augment.{key}", getattr(config, key), remedy)
