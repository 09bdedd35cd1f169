"""Config of the localization data sets; does not import torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resdet.data.config import DataConfig
from resdet.errors import ConfigError, require

if TYPE_CHECKING:
    from resdet.localization.data.ilsvrc_loc import LocalizedImages


@dataclass
class LocAugmentConfig:
    """Section 3.4's crop, flip and color augmentation, applied to images and boxes."""

    short: tuple[int, int] = (256, 480)  # range of the shorter side in pixels
    flip: float = 0.5  # probability of mirroring
    pca_color: float = 0.1  # standard deviation of the color augmentation along principal components; 0: off

    def __post_init__(self):
        ordered = 0 < self.short[0] <= self.short[1]
        require(ordered, "data.augment.short", list(self.short), "give the smaller side first")
        require(0 <= self.flip <= 1, "data.augment.flip", self.flip, "it is a probability, from 0 to 1")
        require(self.pca_color >= 0, "data.augment.pca_color", self.pca_color, "it cannot be negative")


@dataclass
class LocalizationConfig(DataConfig):
    """Images of one class each, with the boxes of its instances (appendix C)."""

    root: str = "."  # folder of the data set
    size: int = 224  # side in pixels of a training crop, of the center crop, and of R-CNN's warped regions
    short: int = 256  # shorter side in pixels before the center crop
    augment: LocAugmentConfig = field(default_factory=LocAugmentConfig)
    max_objects: int = 32  # largest number of objects per image; if there are more, the largest objects are used
    workers: int = -1  # loader processes; -1: one per core of the process, at most eight
    # action for an image that cannot be decoded; error: stop the run; skip: leave the image out and list it in the log
    on_bad_image: Literal["error", "skip"] = "error"

    def __post_init__(self):
        if self.size < 1 or min(self.short, self.augment.short[0]) < self.size:
            raise ConfigError(
                f"data.size is {self.size}, data.short {self.short} and data.augment.short "
                f"{list(self.augment.short)}: give a crop of at least 1 and at most the short sides.",
                "data.size",
            )
        require(self.max_objects > 0, "data.max_objects", self.max_objects, "give one or more")

    def open(self, split: str) -> "LocalizedImages":
        """Opens the images of a split, `train` or `val`, with their classes and boxes."""
        raise NotImplementedError


@dataclass
class IlsvrcLocConfig(LocalizationConfig):
    """ILSVRC 2012 with boxes, in any of its official layouts (datasets/README.md)."""

    root: str = "datasets/ILSVRC2012"

    def open(self, split: str) -> "LocalizedImages":
        from resdet.localization.data.ilsvrc_loc import open_ilsvrc_loc

        return open_ilsvrc_loc(self.root, split)


@dataclass
class ShapeLocConfig(LocalizationConfig):
    """Generated images in ILSVRC's layout, written to `root` at first use."""

    root: str = "datasets/shape_loc"
    train_images: int = 4000  # number of training images
    val_images: int = 400  # number of validation images
    side: int = 160  # longer side of the images in pixels
    seed: int = 0  # seed of the generated images

    def open(self, split: str) -> "LocalizedImages":
        from resdet.localization.data import shape_loc
        from resdet.localization.data.ilsvrc_loc import open_ilsvrc_loc

        shape_loc.ensure(Path(self.root), self.train_images, self.val_images, self.side, self.seed)
        return open_ilsvrc_loc(self.root, split)
